//! CPU time and memory of a process, from `/proc`. On other systems there are no figures.

/// What a process has used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// User and system time.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub memory_mib: f64,
}

/// Clock ticks a second in `/proc/PID/stat`: 100 on every Linux that Debian supports.
const TICKS: f64 = 100.0;

impl Usage {
    /// Of a process; `None` if it is gone or the system tells nothing.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self {
            cpu_seconds: cpu_seconds(&stat)?,
            memory_mib: memory_mib(&status)?,
        })
    }
}

/// Load average over the last minute; 0 where it is not told.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or_default()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name, in parentheses, may hold spaces: fields are counted after it. 14 and 15 are utime and stime.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}

fn memory_mib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some((kib / 1024.0 * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_spaces_in_its_name_is_read() {
        let stat = "12 (a b) c) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(memory_mib("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2.0));
    }
}
