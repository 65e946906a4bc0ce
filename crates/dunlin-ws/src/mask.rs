//! Masking of client frames (RFC 6455, 5.3): an exclusive or with a repeated key of four bytes.

/// Unmasks `bytes` in place; `offset` is the place of their first byte in the frame's payload.
pub(crate) fn unmask(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let mut turned = key;
    turned.rotate_left(offset % 4);
    let [a, b, c, d] = turned;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let masked: [u8; 8] = (&*word).try_into().expect("chunks_exact gives eight bytes");
        word.copy_from_slice(&(u64::from_ne_bytes(masked) ^ wide).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(turned.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_the_definition_in_any_two_parts(
            payload in proptest::collection::vec(any::<u8>(), 0..70),
            key: [u8; 4],
            cut: usize,
        ) {
            let expected: Vec<u8> =
                payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let cut = cut % (payload.len() + 1);
            let mut unmasked = payload;
            let (first, second) = unmasked.split_at_mut(cut);
            unmask(first, key, 0);
            unmask(second, key, cut);
            prop_assert_eq!(unmasked, expected);
        }
    }
}
