

pub mod schema;
