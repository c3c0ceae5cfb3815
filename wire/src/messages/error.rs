//! The body of an answer whose status is not `Ok`.

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::{Message, MessageError, at_most, field, message, text};
use crate::frame::Status;
use crate::generated::hedgerow as fb;
use crate::limits::ERROR_MESSAGE_LEN_MAX;

/// Why a request was not done. The body of any answer whose status is not `Ok` may hold one; it is
/// for people, a program needs no more than the status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorDetail {
    /// The status of the answer's header again.
    pub status: Status,
    /// A sentence, at most [`ERROR_MESSAGE_LEN_MAX`] bytes.
    pub message: String,
    /// The request's field at fault; empty if there is none.
    pub field: String,
    /// What that field held.
    pub value: u64,
}

impl Default for ErrorDetail {
    fn default() -> ErrorDetail {
        ErrorDetail::new(Status::Internal, "")
    }
}

impl ErrorDetail {
    /// A sentence that concerns no field.
    pub fn new(status: Status, message: &str) -> ErrorDetail {
        ErrorDetail { status, message: message.to_owned(), field: String::new(), value: 0 }
    }

    /// The body. As [`Message::encode`], but it cannot fail: texts that are too long are cut.
    pub fn encode(&self) -> Vec<u8> {
        let cut = |text: &str| text[..text.floor_char_boundary(ERROR_MESSAGE_LEN_MAX)].to_owned();
        let detail = ErrorDetail { message: cut(&self.message), field: cut(&self.field), ..self.clone() };
        // Both texts are within their limits now, and nothing else can be refused.
        Message::encode(&detail).unwrap_or_default()
    }

    fn build<'a>(
        &self,
        b: &mut FlatBufferBuilder<'a>,
    ) -> Result<WIPOffset<fb::ErrorDetail<'a>>, MessageError> {
        at_most("message", self.message.len(), ERROR_MESSAGE_LEN_MAX)?;
        at_most("field", self.field.len(), ERROR_MESSAGE_LEN_MAX)?;
        let args = fb::ErrorDetailArgs {
            status: self.status as u8,
            message: Some(b.create_string(&self.message)),
            field: Some(b.create_string(&self.field)),
            value: self.value,
        };
        Ok(fb::ErrorDetail::create(b, &args))
    }

    fn read(table: fb::ErrorDetail<'_>) -> Result<ErrorDetail, MessageError> {
        at_most("message", table.message().map_or(0, str::len), ERROR_MESSAGE_LEN_MAX)?;
        at_most("field", table.field().map_or(0, str::len), ERROR_MESSAGE_LEN_MAX)?;
        Ok(ErrorDetail {
            status: Status::from_u8(table.status()).ok_or_else(|| field("status", table.status()))?,
            message: text(table.message()),
            field: text(table.field()),
            value: table.value(),
        })
    }
}

message!(ErrorDetail, ErrorDetail);
