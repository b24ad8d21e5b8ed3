const prepareImage = () => { throw new Error("not yet"); };
const decodePpm = () => null;
