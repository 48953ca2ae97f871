//! The `switchboard` program: a thin door to the library, so that tests reach everything.

fn main() -> std::process::ExitCode {
    server::cli::main()
}
