# Shorter forms of the commands in CONTRIBUTING.md.

default:
    @just --list

# the whole pipeline with a recorded scenario
demo:
    cargo run --release -- serve --demo

# everything that needs only Rust and a C toolchain
test:
    cargo test --workspace

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# licences, advisories, duplicate versions
deny:
    cargo deny check

# tests against real servers
real:
    tests/real/run

# a benchmark: `just bench pipeline`
bench *ARGS:
    cargo run --release -p bench -- {{ARGS}}
