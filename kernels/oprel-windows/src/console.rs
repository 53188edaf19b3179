//! The console, and windows that the system would show by itself.

#![expect(unsafe_code, reason = "consoles are asked and told by raw calls only")]

use windows_sys::Win32::System::Console::{
    CONSOLE_SCREEN_BUFFER_INFO, ENABLE_VIRTUAL_TERMINAL_PROCESSING, GetConsoleMode,
    GetConsoleScreenBufferInfo, GetStdHandle, STD_ERROR_HANDLE, STD_OUTPUT_HANDLE, SetConsoleMode,
};
use windows_sys::Win32::System::Diagnostics::Debug::{
    SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SetErrorMode,
};

/// Columns of the window at standard output; `None` where that is no console.
pub fn console_width() -> Option<usize> {
    let mut told = CONSOLE_SCREEN_BUFFER_INFO::default();
    // SAFETY: a handle that is no console's, or none at all, is answered with zero; the structure is ours.
    let answer =
        unsafe { GetConsoleScreenBufferInfo(GetStdHandle(STD_OUTPUT_HANDLE), &raw mut told) };
    let columns = i32::from(told.srWindow.Right) - i32::from(told.srWindow.Left) + 1;
    usize::try_from(columns).ok().filter(|columns| answer != 0 && *columns > 0)
}

/// Lets the console at standard output and standard error read ANSI's sequences, where that is a console.
pub fn speak_ansi() {
    for which in [STD_OUTPUT_HANDLE, STD_ERROR_HANDLE] {
        let mut mode = 0;
        // SAFETY: a handle that is no console's, or none at all, is answered with zero; the number is ours.
        unsafe {
            let console = GetStdHandle(which);
            if GetConsoleMode(console, &raw mut mode) != 0 {
                SetConsoleMode(console, mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
            }
        }
    }
}

/// Lets this process, and what it starts, end without a window that tells of it.
pub fn fail_quietly() {
    // SAFETY: it takes a number and changes nothing of ours.
    unsafe { SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX) };
}
