//! A file mapped for reading, and how the process survives when the file shrinks meanwhile.
//!
//! Reading a mapped page that the file no longer has, or that the disk fails to deliver, raises SIGBUS. A
//! handler, installed with the first map, looks up the address among our maps; if it is inside one, it puts
//! zero pages in the place of the missing ones and marks the map as damaged, and the read goes on. Any other
//! SIGBUS goes to the handler that was there before. [`Map::is_damaged`] is what makes zeros an error: whoever
//! computes from a map asks it after each step. The rest of the crate sees a slice.
//!
//! On Windows a mapped file cannot be truncated. Elsewhere without SIGBUS nothing is caught.

#![expect(
    unsafe_code,
    reason = "mapping a file, and the signal handler that keeps reading it harmless"
)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// A file mapped for reading, whole.
pub(crate) struct Map {
    // Dropped in this order: the handler forgets the range before it is unmapped.
    #[cfg(unix)]
    watch: sigbus::Watch,
    mmap: Mmap,
    file: File,
}

impl Map {
    /// Maps all bytes that `file` has now. An empty file gives an empty map.
    pub(crate) fn new(file: File) -> io::Result<Map> {
        // SAFETY: nobody writes through the map. Another process may change the file under it: it would
        // have to do so while the model is in use, and since the bytes are only ever read as numbers of
        // which every pattern is valid, all it can cause is wrong numbers. Shrinking is caught below.
        let mmap = unsafe { Mmap::map(&file)? };
        #[cfg(unix)]
        let watch = sigbus::watch(&mmap, &file);
        Ok(Map {
            #[cfg(unix)]
            watch,
            mmap,
            file,
        })
    }

    /// The file lacks bytes that it had when it was mapped, or had to be replaced by zeros on a read.
    pub(crate) fn is_damaged(&self) -> bool {
        #[cfg(unix)]
        if self.watch.is_damaged() {
            return true;
        }
        self.file.metadata().map_or(true, |now| now.len() < self.mmap.len() as u64)
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.mmap
    }
}

#[cfg(unix)]
mod sigbus {
    //! The registry of mapped ranges and the handler that reads it.
    //!
    //! The registry is a list of slots that only grows and whose slots are reused, so that the handler can
    //! walk it with loads alone: it takes no lock and allocates nothing.

    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};
    use std::sync::{Mutex, OnceLock, PoisonError};

    /// One range, or none while `end` is 0.
    struct Slot {
        start: AtomicUsize,
        end: AtomicUsize,
        fd: AtomicI32,
        damaged: AtomicBool,
        /// Set once, before the slot is in the list.
        next: Option<&'static Slot>,
    }

    static FIRST: AtomicPtr<Slot> = AtomicPtr::new(std::ptr::null_mut());
    /// Held to change the list; the handler does not take it.
    static CHANGE: Mutex<()> = Mutex::new(());
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

    /// A range that the handler watches, until dropped.
    pub(super) struct Watch(Option<&'static Slot>);

    impl Watch {
        pub(super) fn is_damaged(&self) -> bool {
            self.0.is_some_and(|slot| slot.damaged.load(Ordering::Acquire))
        }
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            if let Some(slot) = self.0 {
                slot.end.store(0, Ordering::SeqCst);
            }
        }
    }

    /// Watches the pages of `bytes`, which map `file`. Both must outlive the result.
    pub(super) fn watch(bytes: &[u8], file: &File) -> Watch {
        if bytes.is_empty() {
            return Watch(None);
        }
        install();
        let _change = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = free_slot().unwrap_or_else(new_slot);
        let start = bytes.as_ptr() as usize;
        slot.damaged.store(false, Ordering::SeqCst);
        slot.fd.store(file.as_raw_fd(), Ordering::SeqCst);
        slot.start.store(start, Ordering::SeqCst);
        // The map reaches to the end of its last page.
        let pages = bytes.len().div_ceil(page()).saturating_mul(page());
        slot.end.store(start.saturating_add(pages), Ordering::SeqCst);
        Watch(Some(slot))
    }

    fn first() -> Option<&'static Slot> {
        // SAFETY: FIRST is null or came from Box::leak in `new_slot`, and no slot is ever freed.
        unsafe { FIRST.load(Ordering::SeqCst).as_ref() }
    }

    fn slots() -> impl Iterator<Item = &'static Slot> {
        std::iter::successors(first(), |slot| slot.next)
    }

    fn free_slot() -> Option<&'static Slot> {
        slots().find(|slot| slot.end.load(Ordering::SeqCst) == 0)
    }

    fn new_slot() -> &'static Slot {
        let slot: &'static Slot = Box::leak(Box::new(Slot {
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            fd: AtomicI32::new(-1),
            damaged: AtomicBool::new(false),
            next: first(),
        }));
        FIRST.store(std::ptr::from_ref(slot).cast_mut(), Ordering::SeqCst);
        slot
    }

    fn page() -> usize {
        PAGE.load(Ordering::SeqCst).max(1)
    }

    /// Installs the handler, once.
    fn install() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // SAFETY: sysconf and sigaction are called with valid arguments; the handler has the signature
            // that SA_SIGINFO asks for, and touches only what may be touched in a signal handler.
            unsafe {
                let page = libc::sysconf(libc::_SC_PAGESIZE);
                PAGE.store(usize::try_from(page).unwrap_or(4096), Ordering::SeqCst);
                let mut before: libc::sigaction = std::mem::zeroed();
                if libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut before) != 0 {
                    return;
                }
                // Known before the handler may need it.
                let _ = BEFORE.set(before);
                let mut ours: libc::sigaction = std::mem::zeroed();
                ours.sa_sigaction = on_sigbus as *const () as usize;
                ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigemptyset(&mut ours.sa_mask);
                libc::sigaction(libc::SIGBUS, &ours, std::ptr::null_mut());
            }
        });
    }

    extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a valid siginfo_t.
        let (code, addr) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
        // A code of 0 or less is a signal that somebody sent, not a failed access.
        if code > 0 && mend(addr) {
            return;
        }
        pass_on(signal, info, context, code);
    }

    /// Puts zero pages where `addr` could not be read, if that is in one of our maps.
    fn mend(addr: usize) -> bool {
        let Some((slot, start, end)) = slots().find_map(|slot| {
            let end = slot.end.load(Ordering::SeqCst);
            let start = slot.start.load(Ordering::SeqCst);
            let unchanged = slot.end.load(Ordering::SeqCst) == end;
            (unchanged && (start..end).contains(&addr)).then_some((slot, start, end))
        }) else {
            return false;
        };
        slot.damaged.store(true, Ordering::SeqCst);
        let at = addr.saturating_sub(addr.checked_rem(page()).unwrap_or(0));
        // Beyond the end of the file all pages are missing: one mapping for all of them, lest random reads
        // make one each. Within it, the disk failed: replace that page.
        let cut = start.saturating_add(file_bytes(slot).div_ceil(page()).saturating_mul(page()));
        if at >= cut { zeros(cut, end) } else { zeros(at, at.saturating_add(page())) }
    }

    /// Bytes that the file of `slot` has now; all there can be if unknown, so that one page is mended.
    fn file_bytes(slot: &Slot) -> usize {
        with_errno_kept(|| {
            // SAFETY: stat is plain data, and fstat is safe in a signal handler.
            unsafe {
                let mut stat: libc::stat = std::mem::zeroed();
                if libc::fstat(slot.fd.load(Ordering::SeqCst), &mut stat) != 0 {
                    return usize::MAX;
                }
                usize::try_from(stat.st_size).unwrap_or(usize::MAX)
            }
        })
    }

    /// Replaces the pages of `start..end`, both multiples of a page, by zeros.
    fn zeros(start: usize, end: usize) -> bool {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let n_bytes = end.saturating_sub(start);
        with_errno_kept(|| {
            // SAFETY: the range lies in a map of ours that is alive, since somebody just read from it; it is
            // only read, and what is read stays readable. mmap is a bare system call.
            let got = unsafe {
                libc::mmap(start as *mut libc::c_void, n_bytes, libc::PROT_READ, flags, -1, 0)
            };
            got != libc::MAP_FAILED
        })
    }

    fn with_errno_kept<T>(f: impl FnOnce() -> T) -> T {
        // SAFETY: errno is a thread-local integer.
        unsafe {
            let errno = errno_location();
            let kept = *errno;
            let result = f();
            *errno = kept;
            result
        }
    }

    /// Does what would have been done without us.
    fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void, code: i32) {
        let before = BEFORE
            .get()
            .filter(|b| b.sa_sigaction != libc::SIG_DFL && b.sa_sigaction != libc::SIG_IGN);
        // SAFETY: the handler was installed by sigaction with the signature its flags tell; resetting to the
        // default makes the failed access, or the signal raised again, end the process as it should.
        unsafe {
            match before {
                Some(b) if b.sa_flags & libc::SA_SIGINFO != 0 => {
                    type Action = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
                    let action = std::mem::transmute::<usize, Action>(b.sa_sigaction);
                    action(signal, info, context);
                }
                Some(b) => {
                    let handler = std::mem::transmute::<usize, extern "C" fn(i32)>(b.sa_sigaction);
                    handler(signal);
                }
                None => {
                    libc::signal(signal, libc::SIG_DFL);
                    if code <= 0 {
                        libc::raise(signal);
                    }
                }
            }
        }
    }

    #[cfg(any(target_os = "linux", target_os = "emscripten", target_os = "dragonfly"))]
    use libc::__errno_location as errno_location;

    #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
    use libc::__error as errno_location;

    #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
    use libc::__errno as errno_location;

    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    use libc::___errno as errno_location;
}

#[cfg(all(test, unix))]
mod tests {
    //! What happens to a SIGBUS that is not ours. Each test runs itself again as a child that dies of it.

    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    use super::*;

    const CHILD: &str = "OPREL_GGUF_TEST_CHILD";

    /// Runs the test of this name again as a child; `None` in the child.
    fn in_a_child(test: &str) -> Option<ExitStatus> {
        if std::env::var_os(CHILD).is_some() {
            // SAFETY: a plain system call; no core files, please.
            unsafe {
                libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 })
            };
            return None;
        }
        let exe = std::env::current_exe().unwrap();
        let mut child = Command::new(exe);
        child.args(["--exact", &format!("map::tests::{test}"), "--nocapture"]).env(CHILD, "1");
        Some(child.output().unwrap().status)
    }

    fn one_page() -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 4096]).unwrap();
        file
    }

    /// Reads a map that is not ours and whose file is gone.
    fn read_a_foreign_map() -> u8 {
        let file = one_page();
        // SAFETY: what this test is about.
        let foreign = unsafe { Mmap::map(&file).unwrap() };
        file.set_len(0).unwrap();
        std::hint::black_box(&foreign)[7]
    }

    #[test]
    fn a_fault_in_another_map_ends_the_process() {
        let Some(status) = in_a_child("a_fault_in_another_map_ends_the_process") else {
            let _ours = Map::new(one_page()).unwrap();
            println!("{}", read_a_foreign_map());
            return;
        };
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
    }

    #[test]
    fn a_signal_that_was_sent_ends_the_process() {
        let Some(status) = in_a_child("a_signal_that_was_sent_ends_the_process") else {
            let _ours = Map::new(one_page()).unwrap();
            // The handler of the standard library, which was there before, ignores the first one.
            for _ in 0..2 {
                // To this thread, so that each is handled before the next: two to the process may merge.
                // SAFETY: a plain system call.
                unsafe { libc::raise(libc::SIGBUS) };
            }
            return;
        };
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
    }

    #[test]
    fn the_handler_that_was_there_before_is_called() {
        extern "C" fn before(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(42) };
        }
        let Some(status) = in_a_child("the_handler_that_was_there_before_is_called") else {
            // SAFETY: `before` has the signature that SA_SIGINFO asks for.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = before as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
                libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
            }
            let ours = one_page();
            let map = Map::new(ours.try_clone().unwrap()).unwrap();
            ours.set_len(0).unwrap();
            assert_eq!(map[7], 0, "ours are still mended");
            assert!(map.is_damaged());
            println!("{}", read_a_foreign_map());
            return;
        };
        assert_eq!(status.code(), Some(42), "{status}");
    }
}
