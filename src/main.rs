//! flash-sale
fn main() {}
