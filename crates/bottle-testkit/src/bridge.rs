//! The guest's link, without a guest.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

/// Carries the connections of a new loopback port to a door's socket, as the guest's link does; the port. An end of a stream goes
/// through to the other side.
pub fn bridge(socket: &Path) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let socket = socket.to_owned();
    thread::spawn(move || {
        for guest in listener.incoming().map_while(Result::ok) {
            // While a door is away, who comes is turned away.
            let Ok(door) = UnixStream::connect(&socket) else { continue };
            carry(guest, door);
        }
    });
    port
}

fn carry(mut guest: TcpStream, mut door: UnixStream) {
    let (Ok(mut guest_in), Ok(mut door_out)) = (guest.try_clone(), door.try_clone()) else { return };
    thread::spawn(move || {
        let _ = copy(&mut guest_in, &mut door_out);
        let _ = door_out.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let _ = copy(&mut door, &mut guest);
        let _ = guest.shutdown(Shutdown::Write);
    });
}
