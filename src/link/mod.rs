//! What the system knows of the ways out of this device, and tells without being asked again and again.
//!
//! | part | what it tells | by what |
//! |---|---|---|
//! | `ways` | whether there is a way to the server | interfaces, and the kernel's own choice of route |
//! | `interface` | what kind of interface it is | `/sys/class/net` |
//! | `signal` | how strong a wireless signal is | `/proc/self/net/wireless` |
//! | `bell` | that links, addresses, routes or power changed | netlink |
//! | `sleep` | that the device woke up | a timer that a resumed clock ends |
//! | `power` | the charge of the battery | `/sys/class/power_supply` |
//! | `metered` | whether bytes cost money | NetworkManager over D-Bus |
//!
//! Each is a hint that traffic may overrule, and each may be missing.

pub mod bell;
pub mod interface;
pub mod metered;
pub mod power;
pub mod signal;
pub mod sleep;
pub mod ways;
