//! Many strings in one allocation, each found in constant time.

use oprel_gguf::StrArray;

/// Strings one after the other. Together they are shorter than 4 GiB, as a [`StrArray`]'s are.
#[derive(Default)]
pub(crate) struct Strings {
    text: String,
    ends: Vec<u32>,
}

impl Strings {
    /// Copies `strings`, an empty one as `empty` makes it of its place. `None` beyond 4 GiB.
    pub(crate) fn new(strings: &StrArray, empty: impl Fn(usize) -> String) -> Option<Strings> {
        let mut all = Strings { text: String::new(), ends: Vec::with_capacity(strings.len()) };
        all.text.reserve_exact(strings.iter().map(str::len).sum());
        for (i, s) in strings.iter().enumerate() {
            match s {
                "" => all.text.push_str(&empty(i)),
                s => all.text.push_str(s),
            }
            all.ends.push(u32::try_from(all.text.len()).ok()?);
        }
        Some(all)
    }

    /// `n` empty strings.
    pub(crate) fn empty(n: usize) -> Strings {
        Strings { text: String::new(), ends: vec![0; n] }
    }

    /// The string at `i`, empty beyond the last.
    pub(crate) fn get(&self, i: u32) -> &str {
        self.range(i).and_then(|(start, end)| self.text.get(start..end)).unwrap_or_default()
    }

    /// The bytes of the string at `i`.
    #[inline]
    pub(crate) fn bytes(&self, i: u32) -> &[u8] {
        let bytes = self.text.as_bytes();
        self.range(i).and_then(|(start, end)| bytes.get(start..end)).unwrap_or_default()
    }

    #[inline]
    fn range(&self, i: u32) -> Option<(usize, usize)> {
        let i = i as usize;
        let end = *self.ends.get(i)? as usize;
        let start = if i == 0 { 0 } else { *self.ends.get(i - 1)? as usize };
        Some((start, end))
    }

    /// All strings in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone + '_ {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let range = start..end as usize;
            start = range.end;
            self.text.get(range).unwrap_or_default()
        })
    }
}
