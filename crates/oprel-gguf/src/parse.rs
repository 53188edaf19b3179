//! The bytes of one file to its metadata and tensor infos.
//!
//! One pass, in the order of the file. Checks all that the format demands of one file; what the parts of a
//! split model demand of each other is in `split.rs`. Touches no tensor data.

use std::collections::HashMap;
use std::sync::Arc;

use oprel_quant::QuantType;

use crate::cursor::{Cursor, Place, short};
use crate::error::{Error, Result, ShapeProblem};
use crate::limits;
use crate::metadata::Metadata;
use crate::tensor::{TensorInfo, sizes};
use crate::value::{Array, Kind, StrArray, Value};

pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;

/// Tensors by name: their place in the list.
pub(crate) type Names = HashMap<Arc<str>, usize>;

/// What one file says.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) version: u32,
    pub(crate) big_endian: bool,
    pub(crate) alignment: u64,
    pub(crate) metadata: Metadata,
    /// In the order of the file; `part` is 0.
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) names: Names,
}

/// Reads and checks everything before the tensor data, and that all tensor data is there.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed> {
    let mut c = Cursor::new(bytes);
    let version = read_version(&mut c)?;
    let n_tensors = read_count(&mut c, limits::TENSORS, "tensor count")?;
    let n_entries = read_count(&mut c, limits::METADATA_ENTRIES, "metadata count")?;
    // The least bytes of an entry: a key of one byte and a value of one byte. Of a tensor: a name of one
    // byte and one dimension.
    let entry_bytes = c.length_bytes().saturating_add(1 + 4 + 1);
    let tensor_bytes = c.length_bytes().saturating_mul(2).saturating_add(1 + 4 + 4 + 8);
    c.expect(n_entries, entry_bytes, "metadata")?;
    c.expect(n_tensors, tensor_bytes, "tensor infos")?;

    let (metadata, alignment) = read_metadata(&mut c, n_entries)?;
    let (mut infos, names) = read_tensor_infos(&mut c, n_tensors)?;
    place_data(&c, &mut infos, alignment, bytes.len() as u64)?;
    let tensors = infos.into_iter().map(|info| info.tensor).collect();
    Ok(Parsed { version, big_endian: c.big_endian, alignment, metadata, tensors, names })
}

/// Magic and version; sets byte order and widths of what follows.
fn read_version(c: &mut Cursor<'_>) -> Result<u32> {
    let magic = c.take(c.left().min(4), "magic")?;
    if magic != b"GGUF" {
        // An empty or cut file that so far agrees is cut, not of another format.
        if b"GGUF".starts_with(magic) {
            return Cursor::new(magic).expect(4, 1, "magic").map(|()| 0);
        }
        return Err(Error::NotGguf { found: magic.to_vec() });
    }
    let mut version = c.u32("version")?;
    // Versions are small: low bits that are all zero are the high bits of a swapped number.
    if version != 0 && version & 0xffff == 0 {
        c.big_endian = true;
        version = version.swap_bytes();
    }
    if !(1..=3).contains(&version) {
        return Err(Error::Version { version });
    }
    c.wide = version > 1;
    Ok(version)
}

fn read_count(c: &mut Cursor<'_>, limit: u64, what: &str) -> Result<u64> {
    let offset = c.offset();
    let n = c.length(what)?;
    c.cap(offset, n, limit, what)?;
    Ok(n)
}

/// All entries, and the alignment that they set.
fn read_metadata(c: &mut Cursor<'_>, n_entries: u64) -> Result<(Metadata, u64)> {
    let mut metadata = Metadata::default();
    let mut alignment = DEFAULT_ALIGNMENT;
    for i in 0..n_entries {
        c.place = Place::Entry(i);
        let offset = c.offset();
        let key = read_name(c, limits::KEY_BYTES, "key")?;
        if metadata.contains(&key) {
            let (reading, name) = (c.reading("key"), short(&key).to_owned());
            return Err(Error::Duplicate { offset, reading, name });
        }
        c.place = Place::Metadata(key.clone());
        let kind = read_kind(c, "type")?;
        let value_offset = c.offset();
        let value = read_value(c, kind)?;
        c.header_stays_small(0, "end")?;
        if &*key == ALIGNMENT_KEY {
            alignment = alignment_from(&value, value_offset)?;
        }
        metadata.insert(key, value);
    }
    Ok((metadata, alignment))
}

/// A key or tensor name: not empty.
fn read_name(c: &mut Cursor<'_>, limit: u64, what: &str) -> Result<Arc<str>> {
    let offset = c.offset();
    let name = c.string(limit, what)?;
    if name.is_empty() {
        return Err(Error::Empty { offset, reading: c.reading(what) });
    }
    Ok(name.into())
}

/// A power of two as llama.cpp wants it, or a multiple of 8 as the specification does.
pub(crate) fn alignment_is_usable(alignment: u64) -> bool {
    alignment != 0 && (alignment.is_power_of_two() || alignment.is_multiple_of(8))
}

fn alignment_from(value: &Value, offset: u64) -> Result<u64> {
    match value {
        Value::U32(n) if alignment_is_usable(u64::from(*n)) => Ok(u64::from(*n)),
        Value::U32(n) => Err(Error::Alignment { offset, found: n.to_string() }),
        other => Err(Error::Alignment { offset, found: other.describe() }),
    }
}

fn read_kind(c: &mut Cursor<'_>, what: &str) -> Result<Kind> {
    let offset = c.offset();
    let number = c.u32(what)?;
    Kind::from_gguf(number).ok_or_else(|| Error::UnknownValueType {
        offset,
        reading: c.reading(what),
        number,
    })
}

fn read_value(c: &mut Cursor<'_>, kind: Kind) -> Result<Value> {
    const WHAT: &str = "value";
    Ok(match kind {
        Kind::U8 => Value::U8(u8::from_le_bytes(c.number(WHAT)?)),
        Kind::I8 => Value::I8(i8::from_le_bytes(c.number(WHAT)?)),
        Kind::U16 => Value::U16(u16::from_le_bytes(c.number(WHAT)?)),
        Kind::I16 => Value::I16(i16::from_le_bytes(c.number(WHAT)?)),
        Kind::U32 => Value::U32(u32::from_le_bytes(c.number(WHAT)?)),
        Kind::I32 => Value::I32(i32::from_le_bytes(c.number(WHAT)?)),
        Kind::F32 => Value::F32(f32::from_le_bytes(c.number(WHAT)?)),
        Kind::U64 => Value::U64(u64::from_le_bytes(c.number(WHAT)?)),
        Kind::I64 => Value::I64(i64::from_le_bytes(c.number(WHAT)?)),
        Kind::F64 => Value::F64(f64::from_le_bytes(c.number(WHAT)?)),
        Kind::Bool => {
            let offset = c.offset();
            let [byte] = c.number(WHAT)?;
            Value::Bool(bool_from(c, offset, byte)?)
        }
        Kind::Str => Value::Str(c.string(limits::STRING_BYTES, WHAT)?),
        Kind::Array => Value::Array(read_array(c, 1)?),
    })
}

fn bool_from(c: &Cursor<'_>, offset: u64, byte: u8) -> Result<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(Error::NotBool { offset, reading: c.reading("value"), found }),
    }
}

/// An array whose own type was read; `depth` is 1 for one that is in no other.
fn read_array(c: &mut Cursor<'_>, depth: u32) -> Result<Array> {
    c.cap(c.offset(), depth.into(), limits::ARRAY_DEPTH.into(), "array nesting")?;
    let kind = read_kind(c, "element type")?;
    let offset = c.offset();
    let n = c.length("array length")?;
    c.cap(offset, n, limits::ARRAY_LEN, "array length")?;
    Ok(match kind {
        Kind::U8 => Array::U8(c.take_array(n, kind)?.to_vec()),
        Kind::I8 => Array::I8(numbers(c, n, kind, i8::from_le_bytes)?),
        Kind::U16 => Array::U16(numbers(c, n, kind, u16::from_le_bytes)?),
        Kind::I16 => Array::I16(numbers(c, n, kind, i16::from_le_bytes)?),
        Kind::U32 => Array::U32(numbers(c, n, kind, u32::from_le_bytes)?),
        Kind::I32 => Array::I32(numbers(c, n, kind, i32::from_le_bytes)?),
        Kind::F32 => Array::F32(numbers(c, n, kind, f32::from_le_bytes)?),
        Kind::U64 => Array::U64(numbers(c, n, kind, u64::from_le_bytes)?),
        Kind::I64 => Array::I64(numbers(c, n, kind, i64::from_le_bytes)?),
        Kind::F64 => Array::F64(numbers(c, n, kind, f64::from_le_bytes)?),
        Kind::Bool => Array::Bool(bools(c, n)?),
        Kind::Str => Array::Str(strings(c, n)?),
        Kind::Array => Array::Array(arrays(c, n, depth)?),
    })
}

/// `n` numbers of `N` bytes.
fn numbers<const N: usize, T>(
    c: &mut Cursor<'_>,
    n: u64,
    kind: Kind,
    from_le_bytes: fn([u8; N]) -> T,
) -> Result<Vec<T>> {
    let big_endian = c.big_endian;
    let (chunks, _) = c.take_array(n, kind)?.as_chunks::<N>();
    if !big_endian {
        return Ok(chunks.iter().map(|b| from_le_bytes(*b)).collect());
    }
    let swapped = chunks.iter().map(|b| {
        let mut b = *b;
        b.reverse();
        from_le_bytes(b)
    });
    Ok(swapped.collect())
}

fn bools(c: &mut Cursor<'_>, n: u64) -> Result<Vec<bool>> {
    let start = c.offset();
    let bytes = c.take_array(n, Kind::Bool)?;
    (start..).zip(bytes).map(|(offset, byte)| bool_from(c, offset, *byte)).collect()
}

/// `n` strings: once along the lengths to know the size of all, then the text is copied and checked whole.
fn strings(c: &mut Cursor<'_>, n: u64) -> Result<StrArray> {
    c.expect(n, c.length_bytes(), "array of strings")?;
    let ends = match (c.wide, c.big_endian) {
        (true, false) => string_ends(c.rest(), n, u64::from_le_bytes),
        (true, true) => string_ends(c.rest(), n, u64::from_be_bytes),
        (false, false) => string_ends(c.rest(), n, |b| u32::from_le_bytes(b).into()),
        (false, true) => string_ends(c.rest(), n, |b| u32::from_be_bytes(b).into()),
    };
    let Some(ends) = ends else { return Err(first_bad_string(c, n)) };
    let text_bytes = u64::from(ends.last().copied().unwrap_or(0));
    let all_bytes = n.saturating_mul(c.length_bytes()).saturating_add(text_bytes);
    c.header_stays_small(all_bytes, "array of strings")?;
    let text = String::from_utf8(without_lengths(c.rest(), &ends, c.length_bytes() as usize));
    match text {
        Ok(text) if ends.iter().all(|end| text.is_char_boundary(*end as usize)) => {
            c.take(all_bytes, "array of strings")?;
            Ok(StrArray::from_parts(text, ends))
        }
        _ => Err(first_bad_string(c, n)),
    }
}

/// Where each of `n` strings at the start of `bytes` would end if there were no lengths between them; `None`
/// if one of them cannot be.
fn string_ends<const N: usize>(
    bytes: &[u8],
    n: u64,
    length: fn([u8; N]) -> u64,
) -> Option<Vec<u32>> {
    let mut ends = Vec::with_capacity(n as usize);
    let (mut rest, mut end) = (bytes, 0u32);
    for _ in 0..n {
        let (len, after) = rest.split_first_chunk::<N>()?;
        let len = u32::try_from(length(*len))
            .ok()
            .filter(|len| u64::from(*len) <= limits::STRING_BYTES)?;
        rest = after.get(len as usize..)?;
        end = end.checked_add(len)?;
        ends.push(end);
    }
    Some(ends)
}

/// The strings at the start of `bytes` without the lengths before each, which take `width` bytes.
fn without_lengths(bytes: &[u8], ends: &[u32], width: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(ends.last().copied().unwrap_or(0) as usize);
    let mut rest = bytes;
    for end in ends {
        let len = (*end as usize).saturating_sub(text.len());
        let (string, after) =
            rest.get(width..).and_then(|r| r.split_at_checked(len)).unwrap_or_default();
        text.extend_from_slice(string);
        rest = after;
    }
    text
}

/// The error of the first of `n` strings that is too long, cut, or not UTF-8.
fn first_bad_string(c: &mut Cursor<'_>, n: u64) -> Error {
    for _ in 0..n {
        if let Err(e) = c.string(limits::STRING_BYTES, "string in array") {
            return e;
        }
    }
    // Each by itself is fine, so together they are more than ends can tell.
    let (offset, reading) = (c.offset(), c.reading("strings of the array"));
    Error::Limit { offset, reading, found: u64::MAX, limit: limits::HEADER_BYTES }
}

/// `n` arrays. Grows with what is read, not with what is announced: levels multiply.
fn arrays(c: &mut Cursor<'_>, n: u64, depth: u32) -> Result<Vec<Array>> {
    c.expect(n, c.length_bytes().saturating_add(4), "array of arrays")?;
    (0..n).map(|_| read_array(c, depth.saturating_add(1))).collect()
}

/// A tensor, its data offset as the file says it, and where it says it.
struct Info {
    tensor: TensorInfo,
    data_offset: u64,
    said_at: u64,
}

fn read_tensor_infos(c: &mut Cursor<'_>, n_tensors: u64) -> Result<(Vec<Info>, Names)> {
    let mut infos = Vec::with_capacity(n_tensors as usize);
    let mut names = Names::with_capacity(n_tensors as usize);
    for i in 0..n_tensors {
        c.place = Place::TensorAt(i);
        let offset = c.offset();
        let name = read_name(c, limits::TENSOR_NAME_BYTES, "name")?;
        if names.insert(name.clone(), infos.len()).is_some() {
            let (reading, name) = (c.reading("name"), name.to_string());
            return Err(Error::Duplicate { offset, reading, name });
        }
        c.place = Place::Tensor(name.clone());
        infos.push(read_tensor_info(c, &name, i)?);
        c.header_stays_small(0, "end")?;
    }
    Ok((infos, names))
}

/// Shape, type and data offset of one tensor.
fn read_tensor_info(c: &mut Cursor<'_>, name: &str, index: u64) -> Result<Info> {
    let offset = c.offset();
    let refuse = |problem| Error::Shape { offset, tensor: name.to_owned(), problem };
    let n_dims = c.u32("number of dimensions")?;
    if !(1..=limits::DIMENSIONS).contains(&n_dims) {
        return Err(refuse(ShapeProblem::Dimensions(n_dims)));
    }
    let shape = (0..n_dims).map(|_| c.length("dimension")).collect::<Result<Vec<u64>>>()?;
    let type_at = c.offset();
    let number = c.u32("quant type")?;
    let ty = QuantType::from_gguf(number).ok_or_else(|| {
        let tensor = name.to_owned();
        Error::UnknownQuantType { offset: type_at, tensor, number }
    })?;
    let (cols, block) = (shape.first().copied().unwrap_or(1), ty.block_len() as u64);
    if !cols.is_multiple_of(block) {
        return Err(refuse(ShapeProblem::Blocks { cols, block, ty }));
    }
    let n_bytes = sizes(&shape, ty).and_then(|(_, bytes)| usize::try_from(bytes).ok());
    let Some(n_bytes) = n_bytes else { return Err(refuse(ShapeProblem::TooLarge(shape))) };
    let said_at = c.offset();
    let data_offset = c.u64("data offset")?;
    let (name, index) = (name.to_owned(), index as usize);
    let tensor = TensorInfo { name, shape, ty, index, part: 0, start: 0, n_bytes };
    Ok(Info { tensor, data_offset, said_at })
}

/// Finds where the data of each tensor begins, and that it is in the file, aligned and its own.
fn place_data(c: &Cursor<'_>, infos: &mut [Info], alignment: u64, file_bytes: u64) -> Result<()> {
    let data_start = c.offset().checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
    for info in infos.iter_mut() {
        let name = || info.tensor.name.clone();
        if !info.data_offset.is_multiple_of(alignment) {
            let (offset, found) = (info.said_at, info.data_offset);
            return Err(Error::Misaligned { offset, tensor: name(), found, alignment });
        }
        let start = data_start.checked_add(info.data_offset);
        let end = start.and_then(|start| start.checked_add(info.tensor.n_bytes()));
        if end.is_none_or(|end| end > file_bytes) {
            return Err(Error::Outside {
                offset: info.said_at,
                tensor: name(),
                start: start.unwrap_or(u64::MAX),
                needed: info.tensor.n_bytes(),
                file_bytes,
            });
        }
        info.tensor.start = start.unwrap_or(u64::MAX) as usize; // inside the file, which is in memory
    }
    refuse_overlap(infos)
}

fn refuse_overlap(infos: &[Info]) -> Result<()> {
    let mut order: Vec<&Info> = infos.iter().filter(|info| info.tensor.n_bytes > 0).collect();
    order.sort_unstable_by_key(|info| info.tensor.start);
    for (before, after) in order.iter().zip(order.iter().skip(1)) {
        if before.tensor.start.saturating_add(before.tensor.n_bytes) > after.tensor.start {
            return Err(Error::Overlap {
                offset: after.said_at,
                tensor: after.tensor.name.clone(),
                other: before.tensor.name.clone(),
            });
        }
    }
    Ok(())
}
