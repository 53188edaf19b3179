//! Files and disks: which file a handle is of, what it takes, what is free.

#![expect(unsafe_code, reason = "the standard library does not tell these")]

use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_STANDARD_INFO, FileStandardInfo, GetDiskFreeSpaceExW,
    GetFileInformationByHandle, GetFileInformationByHandleEx,
};

use crate::{done, size};

/// Which file of this machine something is, while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    volume: u32,
    index: u64,
}

/// Which file this is.
///
/// # Errors
/// What the system says.
pub fn file_id(file: &File) -> io::Result<FileId> {
    let mut told = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open, and the structure is ours.
    done(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut told) })?;
    let index = u64::from(told.nFileIndexHigh) << 32 | u64::from(told.nFileIndexLow);
    Ok(FileId { volume: told.dwVolumeSerialNumber, index })
}

/// Bytes of the disk that a file takes.
///
/// # Errors
/// What the system says.
pub fn allocated_bytes(file: &File) -> io::Result<u64> {
    let mut told = FILE_STANDARD_INFO::default();
    // SAFETY: the handle is open, and the pointer and the size are those of the structure of this class.
    done(unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            FileStandardInfo,
            (&raw mut told).cast(),
            size::<FILE_STANDARD_INFO>(),
        )
    })?;
    Ok(u64::try_from(told.AllocationSize).unwrap_or(0))
}

/// Room of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this user may still write there.
    pub free_bytes: u64,
    /// What this user may have there in all.
    pub total_bytes: u64,
}

/// Room of the disk that a folder is on.
///
/// # Errors
/// What the system says, as where there is no such folder.
pub fn space(folder: &Path) -> io::Result<Space> {
    let name: Vec<u16> = folder.as_os_str().encode_wide().chain([0]).collect();
    if name[..name.len() - 1].contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (mut free_bytes, mut total_bytes) = (0, 0);
    // SAFETY: the name ends with a zero, both numbers are ours, and the third may be null.
    done(unsafe {
        GetDiskFreeSpaceExW(
            name.as_ptr(),
            &raw mut free_bytes,
            &raw mut total_bytes,
            ptr::null_mut(),
        )
    })?;
    Ok(Space { free_bytes, total_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_itself_and_takes_room() {
        let path = std::env::temp_dir().join(format!("oprel-file-{}", std::process::id()));
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        let (one, again) = (File::open(&path).unwrap(), File::open(&path).unwrap());
        let other = File::open(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(file_id(&one).unwrap(), file_id(&again).unwrap());
        assert_ne!(file_id(&one).unwrap(), file_id(&other).unwrap());
        assert!(allocated_bytes(&one).unwrap() >= 100_000);
        drop((one, again));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_disk_has_room_and_none_where_there_is_no_folder() {
        let here = space(&std::env::temp_dir()).unwrap();
        assert!(here.total_bytes > 0 && here.total_bytes >= here.free_bytes);
        assert!(space(Path::new("no/such/folder")).is_err());
    }
}
