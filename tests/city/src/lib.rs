//! A synthetic city: register exports as departments really produce them. No real person's data.
