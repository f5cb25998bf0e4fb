//! The program `confab-server`.

use std::process::ExitCode;

fn main() -> ExitCode {
    confab_server::cli::main_from(std::env::args_os())
}
