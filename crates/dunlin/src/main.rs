//! dunlin

fn main() {}
