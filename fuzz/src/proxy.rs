//! What proxies say about clients: any bytes have a verdict.

use dunlin::front::peer::{
    forwarded::{forwarded, x_forwarded_for},
    proxy_protocol::{Beginning, decode},
};

/// Takes the input for the first bytes of a connection, and for the value of a header.
pub fn proxy_header(data: &[u8]) {
    let verdict = decode(data);
    if let Ok(Beginning::Header(header)) = verdict {
        assert!(header.length <= data.len());
        // The header alone says the same, and a part of it says nothing yet.
        assert_eq!(decode(&data[..header.length]), verdict);
        assert_eq!(decode(&data[..header.length - 1]), Ok(Beginning::Part));
    }
    let Ok(text) = str::from_utf8(data) else { return };
    assert_eq!(x_forwarded_for(text).len(), text.matches(',').count() + 1);
    assert!(!forwarded(text).is_empty());
}
