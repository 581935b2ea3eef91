//! A TCP relay that holds every byte back for a while: a long line, where the kernel has no netem.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::network::Host;

/// Listens on `port` of a machine and passes on to `to` as seen from there; each way takes `delay`. Its threads end with the process or with the
/// connections, and compute wherever the caller does.
#[track_caller]
pub fn start(host: &Host, port: u16, to: SocketAddr, delay: Duration) {
    let listener = host.run(|| TcpListener::bind((host.ip, port)).expect("listen"));
    let host = host.clone();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let Ok(near) = near else { return };
            let Ok(far) = host.run(|| TcpStream::connect(to)) else {
                continue;
            };
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
                    continue;
                };
                let _ = to.set_nodelay(true);
                hold_back(from, to, delay);
            }
        }
    });
}

fn hold_back(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (send, receive) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0
                || send
                    .send((Instant::now(), buffer[..count].to_vec()))
                    .is_err()
            {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (came, bytes) in receive {
            std::thread::sleep((came + delay).saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[test]
fn the_line_is_long() {
    use super::network::Network;

    let network = Network::new(&["a"]);
    let host = &network.hosts()[0];
    let echo = host.run(|| TcpListener::bind((host.ip, 0)).unwrap());
    let to = echo.local_addr().unwrap();
    start(host, 700, to, Duration::from_millis(25));
    std::thread::spawn(move || {
        let (mut stream, _) = echo.accept().unwrap();
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).unwrap();
        }
    });
    let mut stream = host.run(|| TcpStream::connect((host.ip, 700)).unwrap());
    for letter in b"abc" {
        let start = Instant::now();
        stream.write_all(&[*letter]).unwrap();
        let mut back = [0];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back[0], *letter);
        assert!(start.elapsed() >= Duration::from_millis(50));
    }
}
