//! The example's socket: it takes what is there in one system call, and sends what is ready in another.
//!
//! Nothing is ever waited for to fill a batch: the first datagram ends the wait, and what stands behind it comes with
//! it. On systems without such calls each datagram has one of its own.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use sip::Transmit;
use sip::limits::MESSAGE_BYTES_MAX;

/// How many datagrams one call takes. What stands behind them waits for their answers to be made.
const BATCH: usize = 16;

/// What may wait for us: some 3,000 messages, or half a second of a thousand calls each second. The usual 200 kB are
/// full after 30 ms in which we do not run, and what is lost then looks to a peer as if we were gone.
#[cfg(target_os = "linux")]
const RECEIVE_BUFFER: usize = 4 << 20;

pub(crate) struct Datagrams {
    socket: UdpSocket,
    buffers: [Vec<u8>; BATCH],
    /// Length and sender of what stands in the buffers.
    received: Vec<(usize, SocketAddr)>,
    #[cfg(target_os = "linux")]
    calls: batched::Calls,
}

impl Datagrams {
    pub(crate) fn bind(local: SocketAddr, patience: Duration) -> io::Result<Datagrams> {
        let socket = UdpSocket::bind(local)?;
        socket.set_read_timeout(Some(patience))?;
        #[cfg(target_os = "linux")]
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        Ok(Datagrams {
            socket,
            buffers: std::array::from_fn(|_| vec![0; MESSAGE_BYTES_MAX]),
            received: Vec::with_capacity(BATCH),
            #[cfg(target_os = "linux")]
            calls: batched::Calls::new(),
        })
    }

    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for a datagram, and takes what others are there.
    pub(crate) fn receive(&mut self) -> io::Result<()> {
        self.received.clear();
        #[cfg(target_os = "linux")]
        return self.calls.receive(&self.socket, &mut self.buffers, &mut self.received);
        #[cfg(not(target_os = "linux"))]
        {
            let one = self.socket.recv_from(&mut self.buffers[0])?;
            self.received.push(one);
            Ok(())
        }
    }

    /// One of what [`Datagrams::receive`] brought.
    pub(crate) fn received(&self, place: usize) -> Option<(&[u8], SocketAddr)> {
        let &(length, remote) = self.received.get(place)?;
        Some((self.buffers.get(place)?.get(..length)?, remote))
    }

    /// Sends these in their order; those that cannot be sent are given back.
    pub(crate) fn send(&mut self, mut all: &[Transmit]) -> Vec<Transmit> {
        let mut failed = Vec::new();
        while let [first, rest @ ..] = all {
            let sent = if rest.is_empty() { self.send_one(first) } else { self.send_some(all) };
            if let Ok(sent) = sent {
                all = all.get(sent.max(1)..).unwrap_or_default();
            } else {
                failed.push(first.clone());
                all = rest;
            }
        }
        failed
    }

    fn send_one(&self, one: &Transmit) -> io::Result<usize> {
        self.socket.send_to(&one.bytes, one.flow.remote).map(|_| 1)
    }

    #[cfg(target_os = "linux")]
    fn send_some(&mut self, all: &[Transmit]) -> io::Result<usize> {
        self.calls.send(&self.socket, all)
    }

    #[cfg(not(target_os = "linux"))]
    fn send_some(&mut self, all: &[Transmit]) -> io::Result<usize> {
        all.first().map_or(Ok(0), |first| self.send_one(first))
    }
}

#[cfg(target_os = "linux")]
mod batched {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
    use std::os::fd::AsRawFd;

    use arrayvec::ArrayVec;
    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
    use sip::Transmit;

    use super::BATCH;

    /// What the two calls need room for.
    pub(super) struct Calls {
        received: MultiHeaders<SockaddrStorage>,
        sent: MultiHeaders<SockaddrStorage>,
    }

    impl Calls {
        pub(super) fn new() -> Calls {
            let headers = || MultiHeaders::preallocate(BATCH, None);
            Calls { received: headers(), sent: headers() }
        }

        pub(super) fn receive(
            &mut self,
            socket: &UdpSocket,
            buffers: &mut [Vec<u8>; BATCH],
            received: &mut Vec<(usize, SocketAddr)>,
        ) -> io::Result<()> {
            let mut slices = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
            let flags = MsgFlags::MSG_WAITFORONE;
            for one in recvmmsg(socket.as_raw_fd(), &mut self.received, &mut slices, flags, None)? {
                // Places must agree; a sender without an address does not exist on such a socket.
                let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
                received.push((one.bytes, one.address.and_then(|from| address(&from)).unwrap_or(nobody)));
            }
            Ok(())
        }

        /// How many were sent.
        pub(super) fn send(&mut self, socket: &UdpSocket, all: &[Transmit]) -> io::Result<usize> {
            let now = all.get(..BATCH).unwrap_or(all);
            let slices: ArrayVec<_, BATCH> = now.iter().map(|one| [IoSlice::new(&one.bytes)]).collect();
            let to: ArrayVec<_, BATCH> =
                now.iter().map(|one| Some(SockaddrStorage::from(one.flow.remote))).collect();
            let sent = sendmmsg(socket.as_raw_fd(), &mut self.sent, &slices, to, [], MsgFlags::empty())?;
            Ok(sent.count())
        }
    }

    fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = from.as_sockaddr_in().map(|from| SocketAddr::V4(SocketAddrV4::from(*from)));
        v4.or_else(|| from.as_sockaddr_in6().map(|from| SocketAddr::V6(SocketAddrV6::from(*from))))
    }
}
