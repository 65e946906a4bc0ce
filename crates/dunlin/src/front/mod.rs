//! What meets strangers first: HTTP, TLS and the demo page.

pub(crate) mod tls;
