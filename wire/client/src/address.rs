//! Where daemons listen.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One daemon's address: `host:port`, or `unix:` and the path of a socket.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Address {
    /// `host:port`; the name is looked up anew for every connection.
    Tcp(String),
    /// A Unix-domain socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(addr) => f.write_str(addr),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Address {
        match text.strip_prefix("unix:") {
            Some(path) => Address::Unix(path.into()),
            None => Address::Tcp(text.to_owned()),
        }
    }
}

impl From<String> for Address {
    fn from(text: String) -> Address {
        Address::from(text.as_str())
    }
}

impl From<&String> for Address {
    fn from(text: &String) -> Address {
        Address::from(text.as_str())
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Address {
        Address::Tcp(addr.to_string())
    }
}

/// The daemons of a client: one address, or an array, slice or vector of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addresses(pub(crate) Vec<Address>);

macro_rules! single_address {
    ($($type:ty),+) => {
        $(impl From<$type> for Addresses {
            fn from(addr: $type) -> Addresses {
                Addresses(vec![addr.into()])
            }
        })+
    };
}
single_address!(&str, String, &String, SocketAddr, Address);

impl<A: Into<Address>> From<Vec<A>> for Addresses {
    fn from(addrs: Vec<A>) -> Addresses {
        Addresses(addrs.into_iter().map(Into::into).collect())
    }
}

impl<A: Into<Address>, const N: usize> From<[A; N]> for Addresses {
    fn from(addrs: [A; N]) -> Addresses {
        Addresses(addrs.into_iter().map(Into::into).collect())
    }
}

impl<A: Into<Address> + Clone> From<&[A]> for Addresses {
    fn from(addrs: &[A]) -> Addresses {
        Addresses(addrs.iter().cloned().map(Into::into).collect())
    }
}
