//! The one request and event type, and the wire types of every dialect.
