# Shared by the scripts beside it: system packages and builds. Source it; it runs nothing by itself.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

# What the app is built with, what it runs on, and what its tests need (Debian 12 names).
build_packages="build-essential pkg-config cmake clang libclang-dev libvpx-dev libasound2-dev libwebkit2gtk-4.1-dev libayatana-appindicator3-dev librsvg2-dev"
screen_packages="xvfb xauth imagemagick openbox x11-utils fonts-dejavu-core dbus dbus-x11"
test_packages="$screen_packages webkit2gtk-driver xdotool pulseaudio pulseaudio-utils espeak-ng sox chromium chromium-driver curl jq iproute2 nftables qemu-system-x86 busybox-static cpio kmod xz-utils python3-venv"

say() { printf '\033[1m%s\033[0m\n' "$*"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Installs the packages that are missing, and says which. On other systems it names them and goes on.
need_packages() {
  if ! command -v dpkg-query >/dev/null; then
    say "This is not a Debian system. Please install the equivalents of: $*"
    return 0
  fi
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return 0
  say "Installing system packages: ${missing[*]}"
  as_root apt-get -o DPkg::Lock::Timeout=300 -qq update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

need_tools() {
  local tool
  for tool in cargo node npm; do
    command -v "$tool" >/dev/null || { say "$tool is missing. Install Rust (rustup.rs) and Node.js 20 or newer, then run this again."; exit 1; }
  done
}

# Builds the UI when its sources changed since the last build.
build_ui() {
  local stamp=ui/node_modules/.confab-lock
  if ! cmp -s ui/package-lock.json "$stamp"; then
    say "Fetching the UI's packages"
    (cd ui && npm ci --no-audit --no-fund --loglevel=error)
    cp ui/package-lock.json "$stamp"
  fi
  if [ ! -f ui/dist/index.html ] || [ -n "$(find ui/src ui/public ui/index.html ui/vite.config.ts ui/package.json -newer ui/dist/index.html 2>/dev/null | head -n 1)" ]; then
    say "Building the UI"
    (cd ui && npm run --silent build)
  fi
}
