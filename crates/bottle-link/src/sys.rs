//! What std has no safe form for: odd sockets, poll, signals as a file descriptor, waitpid, bare system calls.

use std::ffi::CString;
use std::io;
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Opens a socket of any family, type and protocol.
pub(crate) fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes three numbers; no memory is involved.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the call has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Connects to a unix socket without waiting, and leaves the stream non-blocking. A full backlog is `WouldBlock`.
pub(crate) fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let fd = socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
    let address = unix_address(path)?;
    let length = mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the address is a whole sockaddr_un that lives across the call, and its length is given.
    check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(UnixStream::from(fd))
}

/// Makes a unix socket that nobody listens on yet: who connects is refused.
pub(crate) fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    let address = unix_address(path)?;
    let length = mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the address is a whole sockaddr_un that lives across the call, and its length is given.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(fd)
}

/// Listens on a unix socket that has its name already.
pub(crate) fn listen(fd: &OwnedFd) -> io::Result<UnixListener> {
    // SAFETY: takes two numbers; no memory is involved.
    check(unsafe { libc::listen(fd.as_raw_fd(), libc::SOMAXCONN) })?;
    fd.try_clone().map(UnixListener::from)
}

fn unix_address(path: &Path) -> io::Result<libc::sockaddr_un> {
    // SAFETY: all zeros is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(address)
}

/// Waits until one of these is ready; `None` waits for ever.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout_ms: Option<u16>) -> io::Result<()> {
    let timeout = timeout_ms.map_or(-1, libc::c_int::from);
    // SAFETY: the pointer and the length are those of one exclusive slice.
    match check(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            fds.iter_mut().for_each(|fd| fd.revents = 0);
            Ok(())
        }
        other => other.map(drop),
    }
}

/// SIGTERM, SIGINT and SIGCHLD, blocked and readable as a descriptor instead. PID 1 has no default actions to fall back on.
pub(crate) fn signals() -> io::Result<OwnedFd> {
    // SAFETY: all zeros is a valid sigset_t, and each call gets a pointer to it while it lives. The process has one
    // thread, so its mask is the process's.
    let fd = unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD] {
            libc::sigaddset(&raw mut set, signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        check(libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC))?
    };
    // SAFETY: the call has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has a command start with no signal blocked. It would inherit this process's mask: what it runs would hear of no SIGTERM, and
/// of no child's end.
pub(crate) fn unblock_signals(command: &mut Command) {
    // SAFETY: between fork and exec only calls that are safe in a signal handler are made, on a set that lives across them.
    unsafe {
        command.pre_exec(|| {
            let mut none: libc::sigset_t = mem::zeroed();
            libc::sigemptyset(&raw mut none);
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())).map(drop)
        });
    }
}

/// The next signal that came, if one did.
pub(crate) fn next_signal(signals: &OwnedFd) -> Option<libc::c_int> {
    // SAFETY: all zeros is a valid signalfd_siginfo.
    let mut info: libc::signalfd_siginfo = unsafe { mem::zeroed() };
    let size = mem::size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer is one signalfd_siginfo and its size is given.
    let read = unsafe { libc::read(signals.as_raw_fd(), (&raw mut info).cast(), size) };
    (usize::try_from(read) == Ok(size)).then_some(info.ssi_signo as libc::c_int)
}

/// Collects every child that has ended, orphans included: who, and the exit code as a shell says it.
pub(crate) fn reap() -> Vec<(i32, i32)> {
    let mut ends = vec![];
    loop {
        let mut status = 0;
        // SAFETY: the status is an integer that lives across the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return ends;
        }
        let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
        ends.push((pid, code));
    }
}

/// Standard input as a descriptor of its own, not inherited by what is run; /dev/null is in its place.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    let null = std::fs::File::open("/dev/null")?;
    // SAFETY: takes three numbers; no memory is involved.
    let fd = check(unsafe { libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the call has just made this descriptor, and nothing else owns it.
    let taken = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: both are open descriptors; std never closes standard input.
    check(unsafe { libc::dup2(null.as_raw_fd(), 0) })?;
    Ok(taken)
}

/// A descriptor that was passed on to this process, under a number that what is run does not inherit.
pub(crate) fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes three numbers; no memory is involved.
    let fd = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: takes one number, which is open, as the call before has shown. It was given to this process for this alone, at its
    // start, and nothing else here knows it.
    check(unsafe { libc::close(number) })?;
    // SAFETY: the call has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes this process to all others of its user: no debugger, nothing of it in /proc.
pub(crate) fn hide() -> io::Result<()> {
    // SAFETY: takes two numbers; no memory is involved.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) }).map(drop)
}

/// Sets limits that everything inherits.
pub(crate) fn limit(limits: &crate::cli::ResourceLimits) -> io::Result<()> {
    for (resource, value) in [(libc::RLIMIT_DATA, limits.data), (libc::RLIMIT_NPROC, limits.processes)] {
        if let Some(value) = value {
            let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
            // SAFETY: the pointer is to a whole rlimit that lives across the call.
            check(unsafe { libc::setrlimit(resource, &raw const limit) })?;
        }
    }
    let Some(cpus) = limits.cpus else { return Ok(()) };
    // SAFETY: all zeros is a valid, empty cpu_set_t; each call gets pointers to whole sets that live across it.
    unsafe {
        let mut there: libc::cpu_set_t = mem::zeroed();
        let mut taken: libc::cpu_set_t = mem::zeroed();
        check(libc::sched_getaffinity(0, mem::size_of_val(&there), &raw mut there))?;
        let all = (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &there));
        all.take(usize::try_from(cpus).unwrap_or(usize::MAX)).for_each(|cpu| libc::CPU_SET(cpu, &mut taken));
        check(libc::sched_setaffinity(0, mem::size_of_val(&taken), &raw const taken))?;
    }
    Ok(())
}

/// The most descriptors that one message may bring.
const MOST_FDS: usize = 3;

/// Reads from a unix socket, with the descriptors that come along.
pub(crate) fn receive(stream: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    const SPACE: usize = 64;
    #[repr(align(8))]
    struct Ancillary([u8; SPACE]);
    let mut ancillary = Ancillary([0; SPACE]);
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    message.msg_controllen = SPACE as _;
    // SAFETY: the message points at one buffer and one aligned space for control data, with their lengths, and all of them
    // live across the call.
    let read = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    if read < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled in the header and the control data, which the macros walk within its length; each
    // descriptor among it is new and owned by nobody else.
    unsafe {
        let mut head = libc::CMSG_FIRSTHDR(&raw const message);
        while !head.is_null() {
            if (*head).cmsg_level == libc::SOL_SOCKET && (*head).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*head).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(head).cast::<libc::c_int>();
                for at in 0..bytes / mem::size_of::<libc::c_int>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(at).read_unaligned()));
                }
            }
            head = libc::CMSG_NXTHDR(&raw const message, head);
        }
    }
    if fds.len() > MOST_FDS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(usize::try_from(read).unwrap_or(0))
}

/// Raises the limit of open files to what is allowed, and says what that is.
pub(crate) fn raise_file_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to a whole rlimit that lives across them.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
            limit.rlim_cur = before;
        }
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Whether this process may search a directory.
pub(crate) fn may_search(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return true };
    // SAFETY: a C string that lives across the call.
    unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 }
}

/// Gives an address to the loopback interface, beside its own, for itself alone (/32).
pub(crate) fn add_loopback_address(address: Ipv4Addr) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo:0") {
        *to = *from as libc::c_char;
    }
    for (what, value) in [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, Ipv4Addr::BROADCAST)] {
        // SAFETY: all zeros is a valid sockaddr_in.
        let mut name: libc::sockaddr_in = unsafe { mem::zeroed() };
        name.sin_family = libc::AF_INET as libc::sa_family_t;
        name.sin_addr.s_addr = u32::from(value).to_be();
        // SAFETY: an IPv4 name has the size of a sockaddr, and any bytes are one.
        request.ifr_ifru.ifru_addr = unsafe { mem::transmute::<libc::sockaddr_in, libc::sockaddr>(name) };
        // SAFETY: the request is a whole ifreq that lives across the call.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), what as _, &raw mut request) })?;
    }
    Ok(())
}

/// Takes every capability out of what this process and its children could ever have. Takes `CAP_SETPCAP`.
pub(crate) fn drop_capability_bounds() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: takes two numbers; no memory is involved.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            // The first number that this kernel does not know.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 => return Ok(()),
            other => other.map(drop)?,
        }
    }
    Ok(())
}

/// Becomes a user other than root, with one group; the capabilities go with it.
pub(crate) fn become_user(user: u32, group: u32) -> io::Result<()> {
    // SAFETY: no group is given, so no memory is read; the others take numbers.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(group, group, group))?;
        check(libc::setresuid(user, user, user))?;
    }
    Ok(())
}

/// Gives up every capability, those that a program could inherit too.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    // The header and data of capset(2), version 3: two sets of three words.
    let header = [0x2008_0522_u32, 0];
    let none = [0_u32; 6];
    // SAFETY: both are whole, as long as that version has them, and live across the call, which only reads them.
    check_long(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) })
}

fn check_long(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives what is run these descriptors as numbers 3, 4 and so on.
pub(crate) fn pass_on(opened: Vec<OwnedFd>) -> io::Result<()> {
    /// Above all numbers that are given.
    const ABOVE: libc::c_int = 100;
    let mut aside = vec![];
    for fd in &opened {
        // SAFETY: takes three numbers; no memory is involved.
        let moved = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ABOVE) })?;
        // SAFETY: the call has just made this descriptor, and nothing else owns it.
        aside.push(unsafe { OwnedFd::from_raw_fd(moved) });
    }
    drop(opened);
    for (fd, number) in aside.iter().zip(3..ABOVE) {
        // SAFETY: takes two numbers. Nothing here owns a descriptor of such a number: what was opened has just been closed.
        check(unsafe { libc::dup2(fd.as_raw_fd(), number) })?;
    }
    Ok(())
}

/// Nothing that this process runs gets more rights than it has.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: takes numbers; no memory is involved.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// Puts this process under a seccomp program: the bytes of an array of `sock_filter`.
pub(crate) fn add_seccomp(program: &[u8]) -> io::Result<()> {
    let steps: Vec<libc::sock_filter> = program
        .chunks_exact(mem::size_of::<libc::sock_filter>())
        .map(|step| libc::sock_filter {
            code: u16::from_ne_bytes([step[0], step[1]]),
            jt: step[2],
            jf: step[3],
            k: u32::from_ne_bytes([step[4], step[5], step[6], step[7]]),
        })
        .collect();
    let whole = steps.len() * mem::size_of::<libc::sock_filter>() == program.len();
    let length = u16::try_from(steps.len()).ok().filter(|length| whole && *length > 0);
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    let filter = libc::sock_fprog { len: length, filter: steps.as_ptr().cast_mut() };
    // SAFETY: the program is one whole slice with its length, which the kernel copies.
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) }).map(drop)
}

/// The flags of a network interface, `IFF_UP` and the like.
pub(crate) fn interface_flags(name: &str) -> io::Result<libc::c_int> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the request is a whole ifreq that lives across the call, which fills in its flags.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) })?;
    // SAFETY: the call has just written this member.
    Ok(libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags }))
}

/// Whether the file system at a path is mounted read-only.
pub(crate) fn is_read_only(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all zeros is a valid statvfs.
    let mut stat: libc::statvfs = unsafe { mem::zeroed() };
    // SAFETY: a C string and a whole statvfs, both living across the call.
    check(unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) })?;
    Ok(stat.f_flag & libc::ST_RDONLY != 0)
}

/// A bare system call, for the self-test's tries. What it makes (a descriptor, a process) is not kept.
///
/// # Safety
/// As the call itself: pointers among the arguments must be valid for what it reads and writes.
pub(crate) unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Forks by a bare system call; the child ends at once.
///
/// # Safety
/// As [`syscall`]; the call must be one that returns twice, as clone does, without a new stack or shared memory.
pub(crate) unsafe fn fork_by(number: libc::c_long, args: [usize; 6]) -> io::Result<()> {
    // SAFETY: the caller's promise. The process has one thread, and the child does nothing but _exit.
    let pid = unsafe { syscall(number, args) }?;
    if pid == 0 {
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: a null status is allowed.
    unsafe { libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), 0) };
    Ok(())
}
