//! Version 4 UUIDs (RFC 9562 section 5.4) as text.

/// Length of the text form.
pub const UUID_CHARS: usize = 36;

/// `xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx` from these bits, except for the six bits of version and variant.
pub fn text(bits: u128) -> [u8; UUID_CHARS] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bits = (bits & !(0xf << 76)) | (0x4 << 76);
    let bits = (bits & !(0x3 << 62)) | (0x2 << 62);
    let mut text = [b'-'; UUID_CHARS];
    let mut shift = 128;
    for (at, byte) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            shift -= 4;
            *byte = HEX[(bits >> shift) as usize & 0xf];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_variant_are_in_their_positions() {
        assert_eq!(&text(0), b"00000000-0000-4000-8000-000000000000");
        assert_eq!(&text(u128::MAX), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(&text(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef), b"01234567-89ab-4def-8123-456789abcdef");
    }
}
