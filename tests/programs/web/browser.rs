//! What a browser makes of the page, driven for real. Needs chromium.

mod following;
mod impostors;
mod looks;
mod reviewing;
mod troubled;

/// A 7-inch tablet, held either way.
const LANDSCAPE: (u32, u32) = (1024, 600);
const PORTRAIT: (u32, u32) = (600, 1024);
