//! End-to-end tests through the public surface: the binary, its HTTP API and its files.

mod bad_input;
mod command_line;
mod crash;
mod delivery;
mod main_path;
mod sink;
mod support;
