//! The page: whose requests are accepted, what is shown, who can change what, and how a browser behaves.

mod browser;
mod changes;
mod kept_port;
mod limits;
mod proof;
mod protection;
mod shown;
mod switched;
