mod link;
mod parts;
mod scenarios;
