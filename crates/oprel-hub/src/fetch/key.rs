//! The key that registries know a user by: Ed25519, in a file as OpenSSH writes it and Ollama keeps it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer, SigningKey};

use super::error::{Error, Result};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const KIND: &[u8] = b"ssh-ed25519";
/// More than any file with one key has.
const MOST_BYTES: u64 = 64 << 10;

/// A key that registries know a user by.
#[derive(Clone)]
pub struct Key(SigningKey);

impl Key {
    /// The first that is there of these files; a new one in the first of them where there is none.
    ///
    /// # Errors
    /// If a file is there and has no key that can be used, or a new one cannot be written.
    pub fn find_or_make(paths: &[PathBuf]) -> Result<Key> {
        for path in paths {
            match fs::metadata(path) {
                Ok(metadata) if metadata.len() > MOST_BYTES => return Err(no_key(path)),
                Ok(_) => {
                    let text = fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
                    return Key::parse(&text).ok_or_else(|| no_key(path));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file(path, error)),
            }
        }
        let Some(path) = paths.first() else {
            return Err(Error::Malformed("there is no folder for a key: set OPREL_HOME".into()));
        };
        let key = Key::new()?;
        key.save(path).map_err(|error| Error::file(path, error))?;
        Ok(key)
    }

    /// A new one.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn new() -> Result<Key> {
        let mut seed = [0; 32];
        let wrong = |error: getrandom::Error| Error::Malformed(format!("no random bytes: {error}"));
        getrandom::fill(&mut seed).map_err(wrong)?;
        Ok(Key(SigningKey::from_bytes(&seed)))
    }

    /// Reads a file as OpenSSH writes it, without a password.
    pub fn parse(text: &str) -> Option<Key> {
        let body = text.trim().strip_prefix(BEGIN)?.trim_end().strip_suffix(END)?;
        let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        let bytes = BASE64.decode(body).ok()?;
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let [cipher, kdf, options] = [field(&mut rest)?, field(&mut rest)?, field(&mut rest)?];
        if (cipher, kdf, options) != (b"none", b"none", b"") || number(&mut rest)? != 1 {
            return None;
        }
        let _public = field(&mut rest)?;
        let mut secret = field(&mut rest)?;
        if number(&mut secret)? != number(&mut secret)? || field(&mut secret)? != KIND {
            return None;
        }
        let public: [u8; 32] = field(&mut secret)?.try_into().ok()?;
        let pair: &[u8; 64] = field(&mut secret)?.try_into().ok()?;
        let key = SigningKey::from_bytes(pair.first_chunk()?);
        (key.verifying_key().to_bytes() == public).then_some(Key(key))
    }

    /// As OpenSSH writes it.
    pub fn to_openssh(&self) -> String {
        let public = self.0.verifying_key().to_bytes();
        let mut secret = Vec::new();
        // Twice the same number: that it reads back equal says that nothing was encrypted.
        let check = &public[..4];
        secret.extend_from_slice(check);
        secret.extend_from_slice(check);
        put(&mut secret, KIND);
        put(&mut secret, &public);
        put(&mut secret, &[self.0.to_bytes(), public].concat());
        put(&mut secret, b"");
        let padding = (1..8).take((8 - secret.len() % 8) % 8);
        secret.extend(padding);
        let mut all = MAGIC.to_vec();
        put(&mut all, b"none");
        put(&mut all, b"none");
        put(&mut all, b"");
        all.extend_from_slice(&1_u32.to_be_bytes());
        put(&mut all, &self.public_bytes());
        put(&mut all, &secret);
        let body = BASE64.encode(all);
        let lines: Vec<_> = body.as_bytes().chunks(70).map(String::from_utf8_lossy).collect();
        format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
    }

    /// The public half as `ssh-ed25519 ...`, to be given to a registry.
    pub fn public(&self) -> String {
        format!("ssh-ed25519 {}", BASE64.encode(self.public_bytes()))
    }

    /// Proves who signs a text: the public key and the signature.
    pub(crate) fn prove(&self, text: &str) -> String {
        let signature = self.0.sign(text.as_bytes()).to_bytes();
        format!("{}:{}", BASE64.encode(self.public_bytes()), BASE64.encode(signature))
    }

    fn public_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, KIND);
        put(&mut bytes, &self.0.verifying_key().to_bytes());
        bytes
    }

    /// Writes both halves; nobody else may read the private one.
    fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        crate::platform::private(&mut options);
        options.open(path)?.write_all(self.to_openssh().as_bytes())?;
        fs::write(path.with_extension("pub"), format!("{}\n", self.public()))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.public()).finish()
    }
}

fn no_key(path: &Path) -> Error {
    let path = path.display();
    Error::Malformed(format!("{path} has no Ed25519 key without a password, as OpenSSH writes it"))
}

fn put(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    into.extend_from_slice(bytes);
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_be_bytes(*first))
}

/// Bytes behind their length.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(rest)? as usize;
    let (field, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_what_it_wrote_and_no_cut_of_it() {
        let key = Key::new().expect("random bytes");
        let text = key.to_openssh();
        let back = Key::parse(&text).expect("a key");
        assert_eq!(back.public(), key.public());
        assert_eq!(back.prove("x"), key.prove("x"));
        for at in 0..text.len() - END.len() - 2 {
            assert!(Key::parse(&text[..at]).is_none());
            assert!(Key::parse(&format!("{}{END}", &text[..at])).is_none(), "{at}");
        }
        assert!(!format!("{key:?}").contains(&text[100..140]));
    }

    #[test]
    fn one_is_made_where_there_is_none_and_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = [folder.path().join("own/id_ed25519"), folder.path().join("other/id_ed25519")];
        let made = Key::find_or_make(&paths).expect("writable");
        assert_eq!(Key::find_or_make(&paths).expect("there").public(), made.public());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&paths[0]).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(&paths[0], "nonsense").expect("writable");
        assert!(Key::find_or_make(&paths).is_err(), "a broken one is not passed over in silence");
    }
}
