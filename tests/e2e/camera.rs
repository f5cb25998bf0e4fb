//! The real camera path, in a virtual machine with a virtual camera.

use std::path::Path;
use std::process::Command;

#[test]
fn the_camera_module_captures_encodes_and_survives_unplugging() -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/camera-vm");
    let output = Command::new(script).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{text}");
    Ok(())
}
