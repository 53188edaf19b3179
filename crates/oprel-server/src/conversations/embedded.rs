//! Conversations in one file beside the server, which servers of one user share.

use std::path::Path;
use std::time::{Duration, Instant};

use redb::{
    ConcurrencyMode, Database, DatabaseError, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition,
};

use crate::unix_s;

use super::{Bounds, Error, Head, Item, Result, Store};

/// Heads by owner and id.
const HEADS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("heads");
/// Bytes of the file that are kept in memory.
const CACHE: usize = 4 << 20;
/// How long another server may take to let the file be shared.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
/// How processes share the file, where the system lets them lock parts of it.
const MODE: ConcurrencyMode = match cfg!(any(target_os = "linux", target_vendor = "apple", windows))
{
    true => ConcurrencyMode::MultiWriter,
    false => ConcurrencyMode::ExclusiveWriter,
};
/// Messages by owner, id and place.
const ITEMS: TableDefinition<'_, (&str, &str, u64), &[u8]> = TableDefinition::new("items");

/// A store in a file.
pub struct Embedded {
    database: Database,
    bounds: Bounds,
}

fn unreachable(error: impl std::fmt::Display) -> Error {
    Error::Unreachable { why: error.to_string() }
}

/// Opens a file that other servers may have open, too. One that has it for itself is waited for.
fn shared(path: &Path) -> Result<Database> {
    let begun = Instant::now();
    loop {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE).set_concurrency_mode(MODE);
        match builder.create(path) {
            Err(DatabaseError::DatabaseAlreadyOpen) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE);
            }
            Err(DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) => {
                let why = format!("another program has '{}' for itself", path.display());
                return Err(Error::Unreachable { why });
            }
            opened => return opened.map_err(unreachable),
        }
    }
}

impl Embedded {
    /// Opens a file, or makes it.
    ///
    /// # Errors
    /// If it cannot be opened, is none of ours, or another program has it for itself.
    pub fn open(path: &Path, bounds: Bounds) -> Result<Embedded> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(unreachable)?;
        }
        let database = shared(path)?;
        crate::platform::keep_private(path).map_err(unreachable)?;
        let write = database.begin_write().map_err(unreachable)?;
        write.open_table(HEADS).map_err(unreachable)?;
        write.open_table(ITEMS).map_err(unreachable)?;
        write.commit().map_err(unreachable)?;
        Ok(Embedded { database, bounds })
    }

    fn is_over(&self, head: &Head, now: u64) -> bool {
        now >= head.updated.saturating_add(self.bounds.lasts.as_secs())
    }
}

impl Store for Embedded {
    fn append(&self, owner: &str, id: &str, version: u64, items: &[Item]) -> Result<Head> {
        let write = self.database.begin_write().map_err(unreachable)?;
        let now = unix_s();
        let head = {
            let mut heads = write.open_table(HEADS).map_err(unreachable)?;
            let mut table = write.open_table(ITEMS).map_err(unreachable)?;
            let old = heads.get((owner, id)).map_err(unreachable)?;
            let old: Option<Head> =
                old.map(|h| serde_json::from_slice(h.value())).transpose().map_err(unreachable)?;
            let mut head = match old {
                Some(head) if !self.is_over(&head, now) => head,
                // What expired is another conversation's place.
                Some(head) => {
                    for place in 0..head.version {
                        table.remove((owner, id, place)).map_err(unreachable)?;
                    }
                    Head { id: id.into(), created: now, ..Head::default() }
                }
                None => Head { id: id.into(), created: now, ..Head::default() },
            };
            if head.version != version {
                return Err(Error::Conflict { id: id.into(), version: head.version });
            }
            for item in items {
                let bytes = serde_json::to_vec(item).map_err(unreachable)?;
                head.bytes = head.bytes.saturating_add(bytes.len() as u64);
                if head.version >= self.bounds.messages || head.bytes > self.bounds.bytes {
                    return Err(Error::Full { id: id.into() });
                }
                table.insert((owner, id, head.version), &bytes[..]).map_err(unreachable)?;
                head.version += 1;
            }
            head.updated = now;
            let bytes = serde_json::to_vec(&head).map_err(unreachable)?;
            heads.insert((owner, id), &bytes[..]).map_err(unreachable)?;
            head
        };
        write.commit().map_err(unreachable)?;
        Ok(head)
    }

    fn get(&self, owner: &str, id: &str) -> Result<Option<(Head, Vec<Item>)>> {
        let read = self.database.begin_read().map_err(unreachable)?;
        let heads = read.open_table(HEADS).map_err(unreachable)?;
        let Some(head) = heads.get((owner, id)).map_err(unreachable)? else { return Ok(None) };
        let head: Head = serde_json::from_slice(head.value()).map_err(unreachable)?;
        if self.is_over(&head, unix_s()) {
            return Ok(None);
        }
        let table = read.open_table(ITEMS).map_err(unreachable)?;
        let mut items = Vec::new();
        for entry in table.range((owner, id, 0)..(owner, id, head.version)).map_err(unreachable)? {
            let (_, bytes) = entry.map_err(unreachable)?;
            items.push(serde_json::from_slice(bytes.value()).map_err(unreachable)?);
        }
        Ok(Some((head, items)))
    }

    fn list(&self, owner: &str, after: &str, most: usize) -> Result<Vec<Head>> {
        let read = self.database.begin_read().map_err(unreachable)?;
        let heads = read.open_table(HEADS).map_err(unreachable)?;
        let now = unix_s();
        let mut all = Vec::new();
        for entry in heads.range((owner, after)..).map_err(unreachable)? {
            let (key, bytes) = entry.map_err(unreachable)?;
            let (of, id) = key.value();
            if of != owner || all.len() >= most {
                break;
            }
            let head: Head = serde_json::from_slice(bytes.value()).map_err(unreachable)?;
            if id != after && !self.is_over(&head, now) {
                all.push(head);
            }
        }
        Ok(all)
    }

    fn delete(&self, owner: &str, id: &str) -> Result<bool> {
        let write = self.database.begin_write().map_err(unreachable)?;
        let existed = {
            let mut heads = write.open_table(HEADS).map_err(unreachable)?;
            let mut table = write.open_table(ITEMS).map_err(unreachable)?;
            let old = heads.remove((owner, id)).map_err(unreachable)?;
            let old: Option<Head> =
                old.map(|h| serde_json::from_slice(h.value())).transpose().map_err(unreachable)?;
            for place in 0..old.as_ref().map_or(0, |head| head.version) {
                table.remove((owner, id, place)).map_err(unreachable)?;
            }
            old.is_some_and(|head| !self.is_over(&head, unix_s()))
        };
        write.commit().map_err(unreachable)?;
        Ok(existed)
    }

    fn expire(&self) -> Result<usize> {
        let over: Vec<(String, String)> = {
            let read = self.database.begin_read().map_err(unreachable)?;
            let heads = read.open_table(HEADS).map_err(unreachable)?;
            if heads.is_empty().map_err(unreachable)? {
                return Ok(0);
            }
            let now = unix_s();
            let mut over = Vec::new();
            for entry in heads.iter().map_err(unreachable)? {
                let (key, bytes) = entry.map_err(unreachable)?;
                let head: Head = serde_json::from_slice(bytes.value()).map_err(unreachable)?;
                if self.is_over(&head, now) {
                    let (owner, id) = key.value();
                    over.push((owner.to_string(), id.to_string()));
                }
            }
            over
        };
        for (owner, id) in &over {
            self.delete(owner, id)?;
        }
        Ok(over.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use oprel_api::Message;

    use super::*;

    fn item(text: &str) -> Item {
        Item { message: Message::user(text), at: 1, incomplete: false }
    }

    fn store(bounds: Bounds) -> (tempfile::TempDir, Embedded) {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(&folder.path().join("c.redb"), bounds).unwrap();
        (folder, store)
    }

    #[test]
    fn turns_are_kept_in_order_and_never_interleave() {
        let (folder, store) = store(Bounds::default());
        let head = store.append("me", "a", 0, &[item("1"), item("2")]).unwrap();
        assert_eq!(head.version, 2);
        let late = store.append("me", "a", 0, &[item("3")]);
        assert!(matches!(late, Err(Error::Conflict { version: 2, .. })));
        store.append("me", "a", 2, &[item("3")]).unwrap();
        store.append("you", "a", 0, &[item("other")]).unwrap();
        store.append("me", "b", 0, &[item("x")]).unwrap();
        drop(store);
        let store = Embedded::open(&folder.path().join("c.redb"), Bounds::default()).unwrap();
        let (head, items) = store.get("me", "a").unwrap().unwrap();
        let texts: Vec<_> = items.iter().map(|i| i.message.content.text()).collect();
        assert_eq!((head.version, texts), (3, ["1", "2", "3"].map(String::from).to_vec()));
        let ids = |owner: &str, after: &str| -> Vec<String> {
            store.list(owner, after, 9).unwrap().into_iter().map(|h| h.id).collect()
        };
        assert_eq!(
            (ids("me", ""), ids("me", "a"), ids("you", "")),
            (vec!["a".into(), "b".into()], vec!["b".into()], vec!["a".into()])
        );
        assert!(store.delete("me", "a").unwrap() && !store.delete("me", "a").unwrap());
        assert_eq!(store.get("me", "a").unwrap(), None);
        assert!(store.get("you", "a").unwrap().is_some());
    }

    #[test]
    fn a_conversation_has_an_end() {
        let (_folder, store) = store(Bounds { messages: 2, ..Bounds::default() });
        let full = store.append("me", "a", 0, &[item("1"), item("2"), item("3")]);
        assert!(matches!(full, Err(Error::Full { .. })));
        assert_eq!(store.get("me", "a").unwrap(), None, "all or nothing");
        let (_folder, store) = self::store(Bounds { bytes: 100, ..Bounds::default() });
        assert!(store.append("me", "a", 0, &[item(&"x".repeat(200))]).is_err());
        let (_folder, store) = self::store(Bounds { lasts: Duration::ZERO, ..Bounds::default() });
        store.append("me", "a", 0, &[item("1")]).unwrap();
        assert_eq!(store.get("me", "a").unwrap(), None);
        assert_eq!(store.append("me", "a", 0, &[item("2")]).unwrap().version, 1);
        assert_eq!(store.expire().unwrap(), 1);
    }
}
