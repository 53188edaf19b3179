//! Jobs: processes that end together.

#![expect(unsafe_code, reason = "jobs are made and filled by raw calls only")]

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject,
};

use crate::{done, size};

/// Processes, with all that they start, that are ended when this value is dropped or when its process ends,
/// however that ends.
#[derive(Debug)]
pub struct Job(OwnedHandle);

impl Job {
    /// A job without processes.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Job> {
        // SAFETY: both pointers may be null, for no attributes and no name.
        let handle = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was made just now, and nobody else has it.
        let job = Job(unsafe { OwnedHandle::from_raw_handle(handle) });
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        // SAFETY: the handle is a job's, and the pointer and the size are those of the structure that this kind of
        // limits is told with.
        done(unsafe {
            SetInformationJobObject(
                job.0.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                size::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>(),
            )
        })?;
        Ok(job)
    }

    /// Takes a process in; what it starts from now on is in, too.
    ///
    /// # Errors
    /// What the system says, as where the process has ended.
    pub fn take(&self, process: &impl AsHandle) -> io::Result<()> {
        let process = process.as_handle().as_raw_handle();
        // SAFETY: both handles are open for as long as they are borrowed here.
        done(unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), process) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_job_ends_with_it() {
        let waits = ["/C", "set /p line="];
        let mut command = std::process::Command::new("cmd");
        let mut child = command.args(waits).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let line = child.stdin.take();
        let job = Job::new().unwrap();
        job.take(&child).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        drop(job);
        child.wait().unwrap();
        drop(line);
    }
}
