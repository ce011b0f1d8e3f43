//! Tables with a Rust type: one struct a table, one field a column.
//!
//! [`tables!`](crate::tables) declares them. Open vSwitch's own are in
//! [`crate::vswitch`]; a table of OVN, or one more of Open vSwitch, is
//! declared by whoever needs it:
//!
//! ```
//! ovsdb::tables! {
//!     /// A logical switch of OVN's northbound database.
//!     pub struct LogicalSwitch = "Logical_Switch" {
//!         /// A name for people; OVN itself does not need one.
//!         NAME name: String,
//!         /// Marks of whoever made it.
//!         EXTERNAL_IDS external_ids: std::collections::BTreeMap<String, String>,
//!     }
//! }
//! use ovsdb::operation::Insert;
//! let row = LogicalSwitch { name: "ls1".into(), ..Default::default() };
//! assert_eq!(Insert::of(&row), Insert::new("Logical_Switch").set("name", "ls1"));
//! ```

use crate::column::{Column, Field};
use crate::operation::Columns;
use crate::replica::{ReadError, Row};
use crate::schema::ColumnType;

/// A table with a Rust type. Made by [`tables!`](crate::tables).
pub trait Table: Sized + Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// Its name in the schema.
    const TABLE: &'static str;
    /// The columns that the type knows. A monitor of the table asks for these.
    const COLUMNS: &'static [ColumnInfo];

    /// Reads a row of the replica. A column that the server does not have is
    /// at its default; one that the monitor does not ask for is an error.
    fn from_row(row: &Row) -> Result<Self, ReadError>;

    /// Reads a row that a `select` answered with. A column that is not there is
    /// at its default.
    fn from_columns(columns: &Columns) -> Result<Self, ReadError>;

    /// All columns, defaults included.
    fn columns_all(&self) -> Columns;

    /// The columns that are not at their default: what an insert must send.
    fn columns_set(&self) -> Columns;
}

/// What a [`Table`] says of one of its columns.
#[derive(Debug, Clone, Copy)]
pub struct ColumnInfo {
    /// Its name in the schema.
    pub name: &'static str,
    /// Whether the Rust type can hold all that such a column can.
    pub fits: fn(&ColumnType) -> bool,
    /// The Rust type in words.
    pub in_words: fn() -> String,
}

/// What [`tables!`](crate::tables) makes of [`Table::from_columns`].
#[doc(hidden)]
pub fn read_column<T, V: Field + Default>(
    table: &str,
    columns: &Columns,
    column: Column<T, V>,
) -> Result<V, ReadError> {
    let Some(value) = columns.get(column.name()) else { return Ok(V::default()) };
    V::from_value(value).map_err(|source| ReadError::Unfit {
        table: table.to_owned(),
        column: column.name().to_owned(),
        source,
    })
}

/// Declares tables as structs.
///
/// Each field is a column: a name for the [`Column`](crate::column::Column)
/// constant, the name of the field, its type (any
/// [`Field`](crate::column::Field)), and the column's name in the schema where
/// that cannot be a field's:
///
/// ```
/// ovsdb::tables! {
///     /// A queue.
///     pub struct Queue = "Queue" {
///         /// The DSCP to write, 0 to 63.
///         DSCP dscp: Option<i64>,
///     }
///     /// An interface, and only what is asked for here.
///     pub struct Kind = "Interface" {
///         /// The kind of device.
///         TYPE kind: String = "type",
///     }
/// }
/// assert_eq!(Kind::TYPE.name(), "type");
/// ```
///
/// The structs implement [`Table`](crate::table::Table), `Default`, `Clone`,
/// `Debug` and `PartialEq`.
#[macro_export]
macro_rules! tables {
    ($(
        $(#[$doc:meta])*
        $vis:vis struct $type:ident = $table:literal {
            $(
                $(#[$column_doc:meta])*
                $constant:ident $field:ident: $rust:ty $(= $column:literal)?
            ),* $(,)?
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default)]
        $vis struct $type {
            $($(#[$column_doc])* $vis $field: $rust,)*
        }

        impl $type {
            $(
                $(#[$column_doc])*
                #[allow(dead_code)]
                $vis const $constant: $crate::column::Column<$type, $rust> =
                    $crate::column::Column::new($crate::tables!(@name $field $($column)?));
            )*
        }

        impl $crate::table::Table for $type {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [$crate::table::ColumnInfo] = &[$(
                $crate::table::ColumnInfo {
                    name: $crate::tables!(@name $field $($column)?),
                    fits: <$rust as $crate::column::Field>::fits,
                    in_words: <$rust as $crate::column::Field>::in_words,
                },
            )*];

            fn from_row(
                row: &$crate::replica::Row,
            ) -> ::std::result::Result<Self, $crate::replica::ReadError> {
                Ok(Self { $($field: row.read(Self::$constant)?,)* })
            }

            fn from_columns(
                columns: &$crate::operation::Columns,
            ) -> ::std::result::Result<Self, $crate::replica::ReadError> {
                Ok(Self { $($field: $crate::table::read_column($table, columns, Self::$constant)?,)* })
            }

            fn columns_all(&self) -> $crate::operation::Columns {
                $crate::operation::Columns::from([$((
                    Self::$constant.name().to_owned(),
                    $crate::column::Field::to_value(&self.$field),
                ),)*])
            }

            fn columns_set(&self) -> $crate::operation::Columns {
                let mut columns = $crate::operation::Columns::new();
                $(if self.$field != <$rust as ::std::default::Default>::default() {
                    columns.insert(
                        Self::$constant.name().to_owned(),
                        $crate::column::Field::to_value(&self.$field),
                    );
                })*
                columns
            }
        }
    )*};
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $column:literal) => { $column };
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::column::Ref;
    use crate::operation::Insert;

    tables! {
        /// One of each.
        pub(crate) struct Sample = "Sample" {
            /// A scalar.
            COUNT count: i64,
            /// An option, with another name.
            KIND kind: Option<String> = "type",
            /// A set of references to its own table.
            PEERS peers: BTreeSet<Ref<Sample>>,
            /// A map.
            MARKS marks: BTreeMap<String, String>,
        }
    }

    #[test]
    fn only_what_is_set_is_inserted() {
        assert_eq!(Insert::of(&Sample::default()), Insert::new("Sample"));
        let sample = Sample { kind: Some("x".into()), ..Default::default() };
        assert_eq!(Insert::of(&sample), Insert::new("Sample").set("type", "x"));
        assert_eq!(sample.columns_all().len(), 4);
        assert_eq!(Sample::from_columns(&sample.columns_all()), Ok(sample.clone()));
        assert_eq!(Sample::from_columns(&sample.columns_set()), Ok(sample));
        let wrong = Columns::from([("count".to_owned(), "many".into())]);
        let error = Sample::from_columns(&wrong).unwrap_err();
        assert_eq!(error.to_string(), "could not read the column `count` of `Sample`");
        assert_eq!(Sample::TABLE, "Sample");
        assert_eq!(
            Sample::COLUMNS.iter().map(|c| c.name).collect::<Vec<_>>(),
            ["count", "type", "peers", "marks"]
        );
    }
}
