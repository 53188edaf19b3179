//! SentencePiece's model file: a protobuf message of pieces and a few settings.
//!
//! Fields that matter: 1 the pieces (1 text, 2 score, 3 kind), 3 the normalizer (2 table, 3 whether a space is put
//! before, 4 whether spaces are merged). What is malformed ends reading with `None`.

use super::kind;

/// What is taken of a model.
pub(super) struct Model {
    pub(super) pieces: Vec<Piece>,
    /// A space is put before a text.
    pub(super) add_prefix: bool,
}

/// One token.
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    /// As in GGUF, whose numbers are SentencePiece's.
    pub(super) kind: i32,
}

/// A field's value.
enum Field<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
}

/// Reads a model; `None` if it is none.
pub(super) fn parse(bytes: &[u8]) -> Option<Model> {
    let mut model = Model { pieces: Vec::new(), add_prefix: true };
    let mut rest = bytes;
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Field::Bytes(piece)) => model.pieces.push(parse_piece(piece)?),
            (3, Field::Bytes(normalizer)) => {
                let mut rest = normalizer;
                while !rest.is_empty() {
                    if let (3, Field::Number(n)) = field(&mut rest)? {
                        model.add_prefix = n != 0;
                    }
                }
            }
            _ => {}
        }
    }
    (!model.pieces.is_empty()).then_some(model)
}

fn parse_piece(bytes: &[u8]) -> Option<Piece> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: kind::NORMAL };
    let mut rest = bytes;
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Field::Bytes(text)) => piece.text = std::str::from_utf8(text).ok()?.to_owned(),
            (2, Field::Float(score)) => piece.score = score,
            (3, Field::Number(n)) => {
                piece.kind = i32::try_from(n).ok().filter(|n| (1..=6).contains(n))?
            }
            _ => {}
        }
    }
    Some(piece)
}

/// Takes a field with its number.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => Field::Number(varint(rest)?),
        1 => {
            take(rest, 8)?;
            Field::Number(0)
        }
        2 => {
            let len = usize::try_from(varint(rest)?).ok()?;
            Field::Bytes(take(rest, len)?)
        }
        5 => Field::Float(f32::from_le_bytes(take(rest, 4)?.try_into().ok()?)),
        _ => return None,
    };
    Some((tag >> 3, value)).filter(|(number, _)| *number > 0)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(n)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_is_none_and_never_a_panic() {
        let piece = b"\x0a\x0a\x0a\x01a\x15\x00\x00\x80\xbf\x18\x04";
        let whole = [piece.as_slice(), b"\x1a\x02\x18\x00"].concat();
        let model = parse(&whole).expect("a model");
        assert_eq!((model.pieces[0].text.as_str(), model.pieces[0].score), ("a", -1.0));
        assert_eq!((model.pieces[0].kind, model.add_prefix), (4, false));
        for end in 0..whole.len() {
            let _ = parse(&whole[..end]);
        }
        assert!(parse(b"").is_none());
        assert!(parse(b"IQ== 0\nIg== 1\n").is_none(), "a list of tiktoken");
        assert!(parse(&[0xff; 40]).is_none());
    }
}
