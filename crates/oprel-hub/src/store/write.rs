//! Changes: blobs come in, manifests are written, copied and removed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use oprel_api::ollama::ModelName;
use sha2::{Digest as _, Sha256};

use super::lock::Lock;
use super::{Access, Damage, Store, Wrong, disk};
use crate::error::{Error, Result};
use crate::{Digest, Manifest};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// A blob of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Whether it was not there before.
    pub new: bool,
}

/// What a removal gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Files removed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Takes a blob in. One that is there is not read again.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the bytes are not those of `expected`; nothing is left of them then.
    pub fn put_blob(&self, reader: impl Read, expected: Option<Digest>) -> Result<Blob> {
        self.may_write()?;
        if let Some(blob) = expected.and_then(|digest| self.renew(&digest, None)) {
            return Ok(blob);
        }
        self.put_new(reader, expected)
    }

    /// Takes a blob in without looking whether it is there already.
    fn put_new(&self, reader: impl Read, expected: Option<Digest>) -> Result<Blob> {
        let temporary = disk::fresh_name(&self.own.blobs());
        let put = self.put_as(&temporary, reader, expected);
        if put.is_err() {
            // What cannot be removed now is garbage that a collection finds.
            let _ = disk::remove(&temporary);
        }
        put
    }

    fn put_as(
        &self,
        temporary: &Path,
        mut reader: impl Read,
        expected: Option<Digest>,
    ) -> Result<Blob> {
        let mut file = disk::create(temporary)?;
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => n,
                Err(why) if why.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(why) => return Err(Error::io("read what becomes", temporary)(why)),
            };
            let Some(bytes) = chunk.get(..n) else { break };
            hasher.update(bytes);
            file.write_all(bytes).map_err(Error::io("write", temporary))?;
            size += n as u64;
        }
        let digest = Digest::finish(hasher);
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(Error::Mismatch { expected, found: digest });
        }
        if let Some(blob) = self.renew(&digest, Some(size)) {
            disk::remove(temporary)?;
            return Ok(blob);
        }
        disk::sync(&file, temporary)?;
        disk::rename(temporary, &self.own.blob(&digest))?;
        Ok(Blob { digest, size, new: true })
    }

    /// Takes a file in: by a further name for it where the disk can do that, else as a copy.
    ///
    /// # Errors
    /// What the system says of the file or the store.
    pub fn put_file(&self, path: &Path) -> Result<Blob> {
        self.may_write()?;
        let failed = |why| Error::io("read", path)(why);
        let real = path.canonicalize().map_err(failed)?;
        if !real.is_file() {
            return Err(Error::NoFile { path: path.to_owned() });
        }
        let (digest, size) =
            Digest::of_reader(File::open(&real).map_err(failed)?).map_err(failed)?;
        if let Some(blob) = self.renew(&digest, Some(size)) {
            return Ok(blob);
        }
        match disk::link(&real, &self.own.blob(&digest)) {
            Ok(()) => {
                disk::sync_folder(&self.own.blob(&digest))?;
                // Garbage is told by its age; the file may be old.
                disk::touch(&self.own.blob(&digest));
                Ok(Blob { digest, size, new: true })
            }
            Err(_) => self.put_new(File::open(&real).map_err(failed)?, Some(digest)),
        }
    }

    /// Takes in a file that `make` writes to the path it is given. Nothing is left of one that fails.
    pub(crate) fn put_made(&self, make: impl FnOnce(&Path) -> Result<()>) -> Result<Blob> {
        self.may_write()?;
        let temporary = disk::fresh_name(&self.own.blobs());
        let put = make(&temporary).and_then(|()| self.put_own(&temporary));
        if put.is_err() {
            // What cannot be removed now is garbage that a collection finds.
            let _ = disk::remove(&temporary);
        }
        put
    }

    /// Gives a file of the store its name as a blob.
    fn put_own(&self, path: &Path) -> Result<Blob> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let (digest, size) = Digest::of_reader(file).map_err(Error::io("read", path))?;
        if let Some(blob) = self.renew(&digest, Some(size)) {
            disk::remove(path)?;
            return Ok(blob);
        }
        disk::rename(path, &self.own.blob(&digest))?;
        Ok(Blob { digest, size, new: true })
    }

    /// A blob that is there, made new so that no collection takes it. One of another size than it must have is damaged.
    fn renew(&self, digest: &Digest, size: Option<u64>) -> Option<Blob> {
        let path = self.own.blob(digest);
        let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        if size.is_some_and(|size| size != metadata.len()) {
            return None;
        }
        disk::touch(&path);
        Some(Blob { digest: *digest, size: metadata.len(), new: false })
    }

    /// Gives a name to a model, all of whose blobs must be in a store. It is the last step of a pull, a copy or a
    /// creation. Files of a model that had the name before go, where no other needs them.
    ///
    /// # Errors
    /// [`Error::Missing`] if a blob is nowhere; [`Error::Busy`].
    pub fn put_manifest(&self, name: &ModelName, manifest: &Manifest) -> Result<Freed> {
        let _lock = self.lock()?;
        for digest in manifest.reachable() {
            self.bring_in(name, digest)?;
        }
        let stored = self.site(&self.own, name)?;
        let name = stored.as_ref().map_or(name, |(name, _)| name);
        // One that cannot be read names nothing that could go.
        let before = self.own_manifests(name).unwrap_or_default();
        self.write_manifest(name, manifest)?;
        self.drop_blobs(&before)
    }

    fn write_manifest(&self, name: &ModelName, manifest: &Manifest) -> Result<()> {
        let path = self.own.manifest_path(name)?;
        let copy = self.own.copy_path(name)?;
        for file in [&path, &copy] {
            disk::create_folder(file.parent().unwrap_or(file))?;
            let temporary = disk::fresh_name(&self.own.private());
            disk::write(&temporary, manifest.bytes())?;
            disk::rename(&temporary, file)?;
        }
        // The newer layout would hide it.
        self.remove_sites(name, Some(&path))
    }

    /// A further name for a model.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such model; as [`put_manifest`](Store::put_manifest).
    pub fn copy(&self, from: &ModelName, to: &ModelName) -> Result<()> {
        let source = self.find(from)?.ok_or_else(|| Error::NotFound { name: from.to_string() })?;
        match &source.manifest {
            Some(manifest) => self.put_manifest(to, manifest).map(|_| ()),
            None => Err(Error::Source {
                path: source.path().to_owned(),
                why: "a model of a cache of the hub has no manifest to copy; pull or create it"
                    .into(),
            }),
        }
    }

    /// Removes a model, and its files where no other needs them.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::ReadOnly`] if it is in a store that is only read; [`Error::Busy`].
    pub fn remove(&self, name: &ModelName) -> Result<Freed> {
        let _lock = self.lock()?;
        let Some((name, _)) = self.site(&self.own, name)? else {
            return Err(match self.find(name)? {
                Some(entry) => Error::ReadOnly { root: entry.path().to_owned() },
                None => Error::NotFound { name: name.to_string() },
            });
        };
        // A manifest that cannot be read names nothing; its blobs are left to a collection.
        let before = self.own_manifests(&name).unwrap_or_default();
        self.remove_sites(&name, None)?;
        let copy = self.own.copy_path(&name)?;
        disk::remove(&copy)?;
        disk::remove_empty(copy.parent().unwrap_or(&copy), &self.own.private());
        self.drop_blobs(&before)
    }

    /// Removes the manifests of a name in all layouts, but for one.
    fn remove_sites(&self, name: &ModelName, but: Option<&Path>) -> Result<()> {
        for site in self.own.every_site()? {
            let same = site.name.as_ref().is_some_and(|known| known.full() == name.full());
            if same && Some(site.path.as_path()) != but {
                disk::remove(&site.path)?;
                disk::sync_folder(&site.path)?;
                if let (Some(folder), Some(all)) =
                    (site.path.parent(), site.path.ancestors().nth(4))
                {
                    disk::remove_empty(folder, all);
                }
            }
        }
        Ok(())
    }

    fn own_manifests(&self, name: &ModelName) -> Result<Vec<Manifest>> {
        let sites = self.own.every_site()?.into_iter();
        let same = sites.filter(|s| s.name.as_ref().is_some_and(|n| n.full() == name.full()));
        same.map(|site| self.own.read(&site.path)).collect()
    }

    /// A blob that only a store beside or a cache of the hub has becomes one of this store too.
    fn bring_in(&self, name: &ModelName, digest: &Digest) -> Result<()> {
        if self.renew(digest, None).is_some() {
            return Ok(());
        }
        let missing = || Error::Missing { name: name.to_string(), digest: *digest };
        let elsewhere = self.find_blob(digest)?.ok_or_else(missing)?;
        let path = self.own.blob(digest);
        if disk::link(&elsewhere, &path).is_ok() {
            return disk::sync_folder(&path);
        }
        let file = File::open(&elsewhere).map_err(Error::io("read", &elsewhere))?;
        self.put_blob(file, Some(*digest)).map(|_| ())
    }

    /// Removes those blobs of manifests that were there, and that no other names. None, if a manifest cannot be read: it may name any.
    fn drop_blobs(&self, of: &[Manifest]) -> Result<Freed> {
        let mut freed = Freed::default();
        let Some(named) = self.named().filter(|_| self.prune) else { return Ok(freed) };
        let blobs = of.iter().flat_map(|m| m.reachable().iter().copied().chain([m.digest()]));
        for digest in blobs.filter(|digest| !named.contains(digest)) {
            let path = self.own.blob(&digest);
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            disk::remove(&path)?;
            freed.files += 1;
            freed.bytes += metadata.len();
        }
        Ok(freed)
    }

    /// Removes damaged blobs of the store, so that the next pull or creation brings them anew. What is damaged
    /// elsewhere, and manifests, stay.
    ///
    /// # Errors
    /// [`Error::Busy`]; what the system says.
    pub fn remove_damaged(&self, damages: &[Damage]) -> Result<Freed> {
        let _lock = self.lock()?;
        let mut freed = Freed::default();
        for damage in damages {
            let name = damage.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_blob =
                damage.path.parent() == Some(&self.own.blobs()) && name.parse::<Digest>().is_ok();
            let is_there = fs::symlink_metadata(&damage.path).is_ok_and(|m| !m.is_dir());
            if !is_blob || !is_there || matches!(damage.wrong, Wrong::Size { .. }) {
                continue;
            }
            freed.bytes += fs::symlink_metadata(&damage.path).map_or(0, |metadata| metadata.len());
            freed.files += 1;
            disk::remove(&damage.path)?;
        }
        Ok(freed)
    }

    pub(super) fn lock(&self) -> Result<Lock> {
        self.may_write()?;
        Lock::take(&self.own.private().join("lock"), &self.own.path)
    }

    fn may_write(&self) -> Result<()> {
        match self.access {
            Access::Write => Ok(()),
            Access::Read => Err(Error::ReadOnly { root: self.own.path.clone() }),
        }
    }
}
