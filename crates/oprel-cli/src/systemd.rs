//! What systemd, or whoever started this process in its manner, hands over and wants to know: sockets that
//! already listen, and whether the server is ready or stopping.

use oprel_server::Given;

/// Sockets that were handed over (`LISTEN_FDS`), if they are for this process. What this process starts gets none of
/// them.
#[cfg(target_os = "linux")]
pub(crate) fn sockets() -> Result<Vec<Given>, oprel::OprelError> {
    use rustix::net::{AddressFamily, sockopt};
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    /// The first descriptor after those of every process.
    const FIRST: i32 = 3;
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let for_us = number("LISTEN_PID") == Some(getpid().as_raw_nonzero().get());
    let n = number("LISTEN_FDS").filter(|_| for_us).unwrap_or(0).clamp(0, 64);
    let take = |at: i32| -> std::io::Result<Given> {
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        let socket = pidfd_getfd(own, at, PidfdGetfdFlags::empty())?;
        if !sockopt::socket_acceptconn(&socket)? {
            return Err(std::io::Error::other("it does not listen"));
        }
        let given = match sockopt::socket_domain(&socket)? {
            AddressFamily::UNIX => Given::Local(socket.into()),
            AddressFamily::INET | AddressFamily::INET6 => Given::Tcp(socket.into()),
            _ => return Err(std::io::Error::other("it is of an unknown kind")),
        };
        // What was handed over outlives the start of another program; this copy of it does not.
        nix::unistd::close(at)?;
        Ok(given)
    };
    let taken = (FIRST..FIRST + n).map(|at| {
        take(at).map_err(|error| {
            oprel::OprelError::validation(format!(
                "socket {at} of LISTEN_FDS cannot be used: {error}"
            ))
        })
    });
    taken.collect()
}

/// Where there is no systemd.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sockets() -> Result<Vec<Given>, oprel::OprelError> {
    Ok(Vec::new())
}

/// Tells whoever asked (`NOTIFY_SOCKET`) how it stands: `READY=1`, `STOPPING=1`.
#[cfg(target_os = "linux")]
pub(crate) fn notify(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(place) = std::env::var_os("NOTIFY_SOCKET").filter(|p| !p.is_empty()) else { return };
    let address = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&place),
    };
    let told = address.and_then(|address| {
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
    });
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager was not told: {state}");
    }
}

/// Where there is no systemd.
#[cfg(not(target_os = "linux"))]
pub(crate) fn notify(_: &str) {}
