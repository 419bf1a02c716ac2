//! What the system knows about routes, links, power and sleep, without polling.
//!
//! | part | what it reports | source |
//! |---|---|---|
//! | `route` | whether there is a route to the server | interfaces, and the kernel's own choice of route |
//! | `interface` | what kind of interface it is | `/sys/class/net` |
//! | `signal` | the strength of a wireless signal | `/proc/self/net/wireless` |
//! | `netlink` | that links, addresses, routes or power changed | netlink |
//! | `sleep` | that the device woke up | a timer that the kernel cancels when the clock jumps |
//! | `power` | the charge of the battery | `/sys/class/power_supply` |
//! | `metered` | whether the network is metered | NetworkManager over D-Bus |
//!
//! Each is only a hint, which traffic may contradict, and each may be missing.

pub mod interface;
pub mod metered;
pub mod netlink;
pub mod power;
pub mod route;
pub mod signal;
pub mod sleep;
