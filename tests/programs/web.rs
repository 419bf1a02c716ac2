//! The page: who is heard, what is shown, what can be changed and by whom, and what a browser makes of it.

mod browser;
mod changes;
mod kept;
mod limits;
mod proof;
mod protection;
mod shown;
mod switched;
