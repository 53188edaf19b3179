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
pub(crate) fn media(field: &str, text: &str) -> Result<Media, Failure> {
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

/// Bytes of a text of base64 (RFC 4648, padded); ends of lines are left out. Fails with the place
/// of the first character that is wrong.
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
mod tests;
