// Runes everywhere; styles live in src/styles, so that the CSP can stay strict.
export default { compilerOptions: { runes: true } };
