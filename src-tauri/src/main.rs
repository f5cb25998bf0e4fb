//! The program `confab`: the app, or (`confab --serve ...`) its call server as a child process.

#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "--serve") {
        args.remove(1);
        return confab_server::cli::main_from(args);
    }
    confab_app::run(args)
}
