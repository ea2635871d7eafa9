//! Whether what exports itself by Arrow's PyCapsule interface is a table or a column: by the schema it exports, which is
//! read here, and never by its data. Layouts: Arrow's C data and C stream interfaces.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{NonNull, null, null_mut};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    Table,
    Column,
}

/// What `object` exports; None if it speaks no Arrow. Its export is called once, and nothing is read but the schema.
pub fn root(object: &Bound<'_, PyAny>) -> PyResult<Option<Root>> {
    if object.hasattr("__arrow_c_schema__")? {
        return schema_root(&object.call_method0("__arrow_c_schema__")?).map(Some);
    }
    if object.hasattr("__arrow_c_array__")? {
        let exported = object.call_method0("__arrow_c_array__")?;
        return schema_root(&exported.cast::<PyTuple>()?.get_item(0)?).map(Some);
    }
    if object.hasattr("__arrow_c_stream__")? {
        return stream_root(&object.call_method0("__arrow_c_stream__")?).map(Some);
    }
    Ok(None)
}

fn schema_root(capsule: &Bound<'_, PyAny>) -> PyResult<Root> {
    let schema: NonNull<Schema> = pointer(capsule, c"arrow_schema")?;
    // SAFETY: a capsule of that name holds an ArrowSchema, which lives as long as the capsule does.
    Ok(unsafe { schema.as_ref() }.root())
}

fn stream_root(capsule: &Bound<'_, PyAny>) -> PyResult<Root> {
    let stream: NonNull<Stream> = pointer(capsule, c"arrow_array_stream")?;
    let mut schema = Schema::EMPTY;
    // SAFETY: a capsule of that name holds an ArrowArrayStream, which lives as long as the capsule does; its callback fills
    // the schema, which is then ours, and is released by its Drop.
    let status = unsafe {
        match stream.as_ref().get_schema {
            Some(get_schema) => get_schema(stream.as_ptr(), &raw mut schema),
            None => return Err(PyValueError::new_err("the exported stream has no schema")),
        }
    };
    match status {
        0 => Ok(schema.root()),
        code => Err(PyValueError::new_err(format!("the exported stream cannot tell its schema (error {code})"))),
    }
}

fn pointer<T>(capsule: &Bound<'_, PyAny>, name: &CStr) -> PyResult<NonNull<T>> {
    Ok(capsule.cast::<PyCapsule>()?.pointer_checked(Some(name))?.cast())
}

/// ArrowSchema.
#[repr(C)]
struct Schema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut Schema,
    dictionary: *mut Schema,
    release: Option<unsafe extern "C" fn(*mut Schema)>,
    private_data: *mut c_void,
}

impl Schema {
    const EMPTY: Self = Self {
        format: null(),
        name: null(),
        metadata: null(),
        flags: 0,
        n_children: 0,
        children: null_mut(),
        dictionary: null_mut(),
        release: None,
        private_data: null_mut(),
    };

    /// A table is a struct of its columns.
    fn root(&self) -> Root {
        // SAFETY: the format of a schema that was not released is a C string.
        let is_struct = !self.format.is_null() && unsafe { CStr::from_ptr(self.format) }.to_bytes() == b"+s";
        if is_struct { Root::Table } else { Root::Column }
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: whoever filled the schema says how it is released, once.
            unsafe { release(self) };
        }
    }
}

/// The beginning of ArrowArrayStream: the rest is its own capsule's to use.
#[repr(C)]
struct Stream {
    get_schema: Option<unsafe extern "C" fn(*mut Stream, *mut Schema) -> c_int>,
}
