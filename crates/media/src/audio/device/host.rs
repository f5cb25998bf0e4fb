//! Real sound devices.
