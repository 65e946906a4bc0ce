//! dunlin-bench

fn main() {}
