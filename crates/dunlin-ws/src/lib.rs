//! The WebSocket codec of Dunlin.
