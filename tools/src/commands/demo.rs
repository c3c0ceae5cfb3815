use crate::context::Context;
use crate::failure::Failure;
use clap::Args;
#[derive(Args, Debug)]
pub struct Demo {}
pub async fn run(_c: &Context, _d: Demo) -> Result<(), Failure> {
    Ok(())
}
