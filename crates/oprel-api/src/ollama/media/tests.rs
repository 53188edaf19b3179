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
