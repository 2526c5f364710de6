// The operator's pages.
export {};
