//! Images and sounds: bare base64 in JSON.

use crate::{Failure, Media, MediaSource, Part};

use super::fields::wrong;

/// The image or sound that a text of base64 holds. `field` is where the text stood.
pub(super) fn part(field: &str, text: &str) -> Result<Part, Failure> {
    let media = media(field, text)?;
    let sound = media.mime.as_deref().is_some_and(|mime| mime.starts_with("audio/"));
    Ok(if sound { Part::Audio(media) } else { Part::Image(media) })
}

/// The same, without saying which.
pub(super) fn media(field: &str, text: &str) -> Result<Media, Failure> {
    let bytes = decode(text).map_err(|at| {
        wrong(format!("{field} is not base64: illegal base64 data at input byte {at}"))
    })?;
    if bytes.is_empty() {
        return Err(wrong(format!("{field} is empty")));
    }
    let mime = kind(&bytes).map(str::to_owned);
    Ok(Media { source: MediaSource::Bytes(bytes.into()), mime })
}

/// What the first bytes say; `None` leaves it to who reads the rest.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    let at = |from: usize, mark: &[u8]| bytes.get(from..).is_some_and(|b| b.starts_with(mark));
    let riff = at(0, b"RIFF");
    let kinds = [
        (at(0, b"\x89PNG\r\n\x1a\n"), "image/png"),
        (at(0, b"\xff\xd8\xff"), "image/jpeg"),
        (riff && at(8, b"WEBP"), "image/webp"),
        (riff && at(8, b"WAVE"), "audio/wav"),
        (at(0, b"ID3"), "audio/mpeg"),
        (at(0, b"\xff\xfb") || at(0, b"\xff\xf3") || at(0, b"\xff\xf2"), "audio/mpeg"),
    ];
    kinds.iter().find(|(is, _)| *is).map(|(_, mime)| *mime)
}

/// Bytes of a text of base64 (RFC 4648, padded); ends of lines are left out. Fails with the place of
/// the first character that is wrong.
fn decode(text: &str) -> Result<Vec<u8>, usize> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut word, mut digits, mut padding) = (0_u32, 0, 0);
    for (at, &c) in text.as_bytes().iter().enumerate() {
        let digit = match c {
            b'\r' | b'\n' => continue,
            b'=' if digits + padding >= 2 && digits + padding < 4 => {
                padding += 1;
                continue;
            }
            _ if padding > 0 => return Err(at),
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(at),
        };
        word = word << 6 | u32::from(digit);
        digits += 1;
        if digits == 4 {
            bytes.extend_from_slice(&word.to_be_bytes()[1..]);
            (word, digits) = (0, 0);
        }
    }
    match (digits, padding) {
        (0, 0) => {}
        (2, 2) => bytes.push((word >> 4) as u8),
        (3, 1) => bytes.extend_from_slice(&((word >> 2) as u16).to_be_bytes()),
        _ => return Err(text.len()),
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_or_refused_by_place() {
        let good: [(&str, &[u8]); 8] = [
            ("", b""),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg==", b"foob"),
            ("Zm9v\r\nYmFy\n", b"foobar"),
            ("+/+/", b"\xfb\xff\xbf"),
            ("AAEC", &[0, 1, 2]),
        ];
        for (text, bytes) in good {
            assert_eq!(decode(text).as_deref(), Ok(bytes), "{text}");
        }
        let bad = [
            ("Zg", 2),
            ("Zg=", 3),
            ("Zg===", 4),
            ("Z===", 1),
            ("=", 0),
            ("Zm9v=", 4),
            ("Zg==Zg==", 4),
            ("Zm-v", 2),
            ("Zm9v ", 4),
            ("data:image/png;base64,AAEC", 4),
            ("é", 0),
        ];
        for (text, at) in bad {
            assert_eq!(decode(text), Err(at), "{text}");
        }
    }

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        let kinds: [(&[u8], _); 8] = [
            (b"\x89PNG\r\n\x1a\nrest", Some("image/png")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"RIFF\x10\0\0\0WAVEfmt ", Some("audio/wav")),
            (b"ID3\x04", Some("audio/mpeg")),
            (b"RIFF", None),
            (b"GIF89a", None),
            (b"", None),
        ];
        for (bytes, mime) in kinds {
            assert_eq!(kind(bytes), mime, "{bytes:?}");
        }
    }

    #[test]
    fn a_sound_among_images_is_a_sound() {
        // "RIFF....WAVE"
        let part_of = |text| part("images[0]", text).unwrap();
        assert!(matches!(part_of("UklGRgAAAABXQVZF"), Part::Audio(_)));
        assert!(
            matches!(part_of("iVBORw0KGgo="), Part::Image(m) if m.mime.as_deref() == Some("image/png"))
        );
        let message = part("images[1]", "%%").unwrap_err().message;
        assert_eq!(message, "images[1] is not base64: illegal base64 data at input byte 0");
        assert_eq!(part("images[1]", "\n").unwrap_err().message, "images[1] is empty");
    }
}
