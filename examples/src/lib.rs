//! The examples are in the folders beside this one; run them with `cargo run --release --example NAME`.
