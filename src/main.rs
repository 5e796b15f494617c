//! Arguments → command.
fn main() {}
