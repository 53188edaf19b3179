//! Named pipes that one user can open.

#![expect(unsafe_code, reason = "who may open a pipe, and whose it is, is told by raw calls only")]

use std::ffi::OsStr;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use tokio::net::windows::named_pipe::{NamedPipeClient, NamedPipeServer, ServerOptions};
use windows_sys::Win32::Foundation::{ERROR_SUCCESS, HLOCAL, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo,
    SDDL_REVISION_1, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    EqualSid, GetTokenInformation, OWNER_SECURITY_INFORMATION, PSID, SECURITY_ATTRIBUTES,
    TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use crate::{done, size};

/// Makes the next place of the pipe `path` for a client, which only this user can take: neither other users nor
/// other machines. The `first` one of a server fails where somebody has the pipe already.
///
/// # Errors
/// What the system says: access is denied where the pipe is another one's.
pub fn listen(path: &OsStr, first: bool) -> io::Result<NamedPipeServer> {
    let user = User::own()?;
    let mine = Descriptor::only_for(&user)?;
    let mut attributes = SECURITY_ATTRIBUTES {
        nLength: size::<SECURITY_ATTRIBUTES>(),
        lpSecurityDescriptor: mine.0.0,
        bInheritHandle: 0,
    };
    let mut options = ServerOptions::new();
    options.first_pipe_instance(first).reject_remote_clients(true);
    let attributes = (&raw mut attributes).cast();
    // SAFETY: it points to attributes whose descriptor lives until the end of this function.
    unsafe { options.create_with_security_attributes_raw(path, attributes) }
}

/// Whether the pipe that was opened is this user's own: anybody can take a name first.
///
/// # Errors
/// What the system says.
pub fn is_ours(pipe: &NamedPipeClient) -> io::Result<bool> {
    let user = User::own()?;
    let (mut owner, mut descriptor) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the handle is open; both pointers are ours, and those that may be null are.
    let answer = unsafe {
        GetSecurityInfo(
            pipe.as_raw_handle(),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if answer != ERROR_SUCCESS {
        return Err(io::Error::from_raw_os_error(answer as i32));
    }
    let _descriptor = Block(descriptor);
    // SAFETY: the first is in the descriptor, which is given back below, the second in `user`.
    Ok(!owner.is_null() && unsafe { EqualSid(owner, user.sid()) } != 0)
}

/// Memory that the system gave and wants back.
struct Block(HLOCAL);

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: it was given by a call that says that it is to be given back so, and nobody uses it any more.
        unsafe { LocalFree(self.0) };
    }
}

/// A user, as a token names one: a structure, and what it points to behind it, so that it must not move.
struct User(Box<Buffer>);

/// The structure has 16 bytes, and a name of a user at most 68.
type Buffer = [u64; 16];

impl User {
    /// Whose process this is.
    fn own() -> io::Result<User> {
        let mut token = ptr::null_mut();
        // SAFETY: the handle of the process needs no closing, and the pointer is ours.
        done(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) })?;
        // SAFETY: the handle was made just now, and nobody else has it.
        let token = unsafe { OwnedHandle::from_raw_handle(token) };
        let mut user = User(Box::default());
        let mut written = 0;
        // SAFETY: the buffer is ours, as long as is said, and aligned for the structure.
        done(unsafe {
            GetTokenInformation(
                token.as_raw_handle(),
                TokenUser,
                user.0.as_mut_ptr().cast(),
                size::<Buffer>(),
                &raw mut written,
            )
        })?;
        Ok(user)
    }

    /// Its name; what it points to lives as long as `self`.
    fn sid(&self) -> PSID {
        // SAFETY: the buffer is larger than the structure, is aligned for it, and was filled with one.
        unsafe { self.0.as_ptr().cast::<TOKEN_USER>().read() }.User.Sid
    }

    /// As the system writes it: `S-1-5-...`.
    fn name(&self) -> io::Result<String> {
        let mut text = ptr::null_mut();
        // SAFETY: what the first points to is in `self`, and the pointer is ours.
        done(unsafe { ConvertSidToStringSidW(self.sid(), &raw mut text) })?;
        let _block = Block(text.cast());
        let mut letters = Vec::new();
        // SAFETY: it is a text of the system, which ends with a zero, and `_block` keeps it until the end of this
        // function.
        unsafe {
            let mut at = text;
            while *at != 0 {
                letters.push(*at);
                at = at.add(1);
            }
        }
        String::from_utf16(&letters).map_err(io::Error::other)
    }
}

/// Whose something is, and who may do what with it.
struct Descriptor(Block);

impl Descriptor {
    /// The user's, for nobody else.
    fn only_for(user: &User) -> io::Result<Descriptor> {
        let name = user.name()?;
        let text = format!("O:{name}D:P(A;;GA;;;{name})");
        let text: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut descriptor = ptr::null_mut();
        // SAFETY: the text ends with a zero, the pointer is ours, and the last one may be null.
        done(unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                ptr::null_mut(),
            )
        })?;
        Ok(Descriptor(Block(descriptor)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::windows::named_pipe::ClientOptions;

    use super::*;

    #[test]
    fn a_user_has_a_name() {
        let user = User::own().unwrap();
        assert!(user.name().unwrap().starts_with("S-1-5-"));
    }

    #[tokio::test]
    async fn a_pipe_is_its_users() {
        let path = format!(r"\\.\pipe\oprel-test-{}", std::process::id());
        let path = OsStr::new(&path);
        let mut server = listen(path, true).unwrap();
        let again = listen(path, false).unwrap();
        let mut client = ClientOptions::new().open(path).unwrap();
        server.connect().await.unwrap();
        assert!(is_ours(&client).unwrap());
        client.write_all(b"hi").await.unwrap();
        let mut said = [0; 2];
        server.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hi");
        drop(again);
    }

    #[tokio::test]
    #[ignore = "Wine gives a name twice"]
    async fn a_name_is_had_once() {
        let path = format!(r"\\.\pipe\oprel-test-once-{}", std::process::id());
        let server = listen(OsStr::new(&path), true).unwrap();
        assert!(listen(OsStr::new(&path), true).is_err());
        drop(server);
    }
}
