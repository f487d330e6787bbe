//! responder
fn main() {}
